"""One job on one rank: load, encode, walk, decode, tell the result.

Every rank runs this with the same plan; what it does follows from its number alone. The order
keeps peaks apart: the encoders come and go before the DiT is loaded, and nothing that grows with
the video's length is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from engine.checkpoint.layout import read_json
from engine.checkpoint.onrank.encoders import load_vae
from engine.checkpoint.onrank.load import DiTSource
from engine.geometry import BLOCK_FRAMES, BLOCK_LATENTS
from engine.model import accel
from engine.model.caches import JobMemory
from engine.model.config import DiTConfig, Numerics
from engine.model.generate import Generation, Inputs, Options
from engine.model.schedule import Schedule
from engine.model.vae import VAE
from engine.model.warmup import warm_up
from engine.parameters.request import Request
from engine.placement.onrank.clock import Clock
from engine.placement.onrank.executor import executor_for
from engine.placement.onrank.groups import Groups, make_groups
from engine.placement.onrank.once import Once, compute
from engine.placement.onrank.rings import Rings
from engine.placement.onrank.weights import Loaded, load_network, outline
from engine.placement.plan import Plan, plan_from_dict
from engine.ranks.embeddings import Shelf, Wanted
from engine.ranks.onrank.encode import Embeddings, Encoders
from engine.ranks.onrank.held import Held
from engine.ranks.onrank.latentlog import LATENT_LOG
from engine.ranks.onrank.ledger import Ledger
from engine.ranks.onrank.mirror import Mirror, Stopping
from engine.ranks.onrank.observer import RankObserver, Telling
from engine.ranks.onrank.rendezvous import init_group, leave_group
from engine.ranks.onrank.segments import ClipWritten, SegmentThread
from engine.ranks.onrank.sink import Sink
from engine.ranks.onrank.video import BlockDecoder, VideoSize, portrait_latents, weight_bytes
from engine.ranks.protocol import RankSpec

#: Seconds after which a collective is given up. The engine notices a dead rank long before.
COLLECTIVE_SECONDS: Final = 1800.0
#: What is computed with, by the type of the weights.
DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp8": torch.bfloat16}


class Asked(Stopping, Protocol):
    """Orders of the engine (``engine.ranks.onrank.report.Control``)."""

    hold_mirror: Callable[[bool], None] | None
    held: Held | None

    @property
    def spike_threshold(self) -> int | None: ...


def run(spec: RankSpec, report: Telling, control: Asked) -> None:
    """Do this rank's part of ``spec``. Returns when the whole group is done.

    Raises:
        CheckpointError, MediaError: files that cannot be used.
        RuntimeError: torch's own, among them out of memory and lost peers.
    """
    began = time.perf_counter()
    # Full float32 products everywhere: a rank must not compute otherwise than its neighbour.
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    with torch.no_grad():
        _Rank(spec, report, control, began).work()


class _Rank:
    def __init__(self, spec: RankSpec, report: Telling, control: Asked, began: float) -> None:
        self.spec, self.report, self.control, self.began = spec, report, control, began
        self.plan: Plan = plan_from_dict(spec.plan)
        self.request = Request.from_dict(spec.request)
        self.device = torch.device(spec.device)
        self.dtype = DTYPES[self.plan.dtype]
        self.numerics = Numerics(compute=self.dtype, fp8=self.plan.dtype == "fp8")
        self.held = control.held = control.held or Held()
        self.held.expect(spec.keep)
        self.observer = RankObserver(
            report,
            # On a GPU the allocator itself keeps the cap.
            Ledger(
                self.held.probe(self.device),
                cap=spec.gpu_memory_cap if self.device.type == "cpu" else None,
            ),
            self.plan,
            spec.rank,
            operator_threshold=lambda: control.spike_threshold,
            own_threshold=self.request.spike_threshold is not None,
        )
        self.ledger = self.observer.ledger
        self.rings = Rings(self.plan, self.device)
        self.is_vae = spec.rank == self.plan.vae_rank
        config = read_json(Path(spec.layout["config"]))
        self.cfg = DiTConfig.from_dict(config)
        self.video = VideoSize.of(self.request, config)
        self.wanted = Wanted.of(self.request, config)

    def work(self) -> None:
        """From the rendezvous to the last barrier. Only a group that is whole is left in order."""
        self.observer.phase("loading", "rendezvous")
        init_group(self.spec, timeout=COLLECTIVE_SECONDS)
        groups = make_groups(self.plan, self.spec.rank, self.device, COLLECTIVE_SECONDS)
        embeddings = self._encode(groups)
        vae, ref, motion = self._portrait(groups)
        with DiTSource(
            self.spec.layout,
            dtype=self.dtype,
            lora=self._lora(),
            fp8_cache=self.request.fp8_cache and self.numerics.fp8,
        ) as source:
            loaded = self._load(source, groups, embeddings)
            if source.fp8_cache is not None and source.fp8_cache.remark is not None:
                text = f"fp8 weights were not kept: {source.fp8_cache.remark}"
                self.report.send("log", level="WARNING", text=text, where=None)
        generation = self._generation(embeddings, ref, motion, loaded.job)
        mirror = self._mirror(generation, groups)
        executor = executor_for(
            self.plan,
            self.spec.rank,
            generation,
            loaded.network,
            groups,
            frame=self.video.latent,
            stop=self.control.stop_after_clip.is_set,
            observer=self.observer,
        )
        made: dict[str, Any] = {}
        decoded: list[Tensor] | None = None
        if vae is None:
            self._begin()
            for _ in executor.run():
                raise AssertionError("only the VAE's rank gets finished blocks")
            self.observer.phase("idle")
        else:
            decoder = self._decoder(vae, motion, mirror)
            with self._sink(vae, decoder, mirror) as sink:
                self._begin()
                for block, latent, logged in mirror.known_finals():
                    sink.take(block, latent.to(self.device), logged=logged)
                for finished in executor.run():
                    sink.take(mirror.first_block + finished.block, finished.latent)
                self.observer.phase("decoding", "closing the last segment")
            made, decoded = sink.finish(), decoder.state
        if executor.clips < generation.clips:
            mirror.stopped(self.control, generation, executor.clips, decoded)
        mirror.close()
        self._tell_result(made)
        loaded.close()
        self.rings.close()
        groups.barrier(patient=True)
        leave_group()
        # A job that was stopped gives its devices back; every rank knows of it.
        name = self.spec.keep if executor.clips == generation.clips else None
        self.held.keep(name, loaded, self.ledger.held("weights"), vae, self._once(embeddings))

    def _mirror(self, generation: Generation, groups: Groups) -> Mirror:
        """What is kept of this rank's state; it goes on from there if the job is resumed."""
        height, width = self.video.latent
        mirror = Mirror(
            self.spec.kept,
            self.plan,
            self.spec.rank,
            Path(self.spec.segment_dir) / LATENT_LOG,
            per_clip=generation.blocks_per_clip,
            latent=torch.zeros(self.cfg.out_dim, BLOCK_LATENTS, height, width, dtype=self.dtype),
        )
        mirror.begin(generation, groups)
        self.observer.keeper, self.observer.first_block = mirror.keeper, mirror.first_block
        self.control.hold_mirror = mirror.hold
        if mirror.remark is not None:
            self.report.send("log", level="WARNING", text=mirror.remark, where=None)
        return mirror

    def _begin(self) -> None:
        if self.device.type == "cuda":
            # cuBLAS takes its workspace at the first product: not within a measured walk.
            small = torch.ones(16, 16, dtype=self.dtype, device=self.device)
            torch.mm(small, small)
        self.ledger.probe.trim()  # what loading left behind is not the steady state
        self.observer.phase("running")

    # -- phases --------------------------------------------------------------------------------

    def _encode(self, groups: Groups) -> Embeddings:
        """Prompt and audio embeddings, encoded by one rank unless they are cached."""
        folder = Path(self.spec.cache_dir)
        encoders = Encoders(
            self.spec.layout,
            folder,
            self.dtype,
            self.device,
            text_on_host=self.plan.encoder_device == "host",
        )
        wanted = self.wanted
        if self.spec.rank == self.plan.encoder_rank:
            missing = encoders.missing(wanted)
            needed = encoders.device_bytes(name for name, _ in missing)
            self.held.make_way(self.device, needed, self.spec.gpu_memory_cap)
            for part, encode in missing:
                self.observer.phase("encoding", part)
                with self.observer.window(f"encoding the {part}", "other"):
                    encode()
                self.ledger.probe.trim()
            self.observer.phase("loading")
        groups.barrier()
        return encoders.read(wanted)

    def _portrait(self, groups: Groups) -> tuple[VAE | None, Tensor, Tensor]:
        """The VAE (on its rank), and the portrait's latents on every rank, in host memory."""
        vae = None
        height, width = self.video.latent
        if self.is_vae:
            vae = self.held.vae or self._load_vae()
            self.ledger.book("vae", weight_bytes(vae))
            self._build_kernels(vae)
            with self.observer.window("portrait", "vae"):
                image, device = Path(str(self.request.image)), self.device.type
                paths, folder = self.spec.layout, Path(self.spec.cache_dir)
                shelf = Shelf(paths, folder, str(self.dtype), device, device)
                ref, motion = portrait_latents(vae, self.cfg, image, self.video, shelf)
            shape = torch.tensor([ref.shape[0], motion.shape[1]])
        else:
            self._build_kernels(None)
            shape = torch.zeros(2, dtype=torch.int64)
        channels, frames = groups.from_rank(self.plan.vae_rank, shape).tolist()
        if not self.is_vae:
            ref = torch.empty(channels, 1, height, width)
            motion = torch.empty(channels, frames, height, width)
        ref = groups.from_rank(self.plan.vae_rank, ref)
        motion = groups.from_rank(self.plan.vae_rank, motion)
        return vae, ref, motion

    def _load_vae(self) -> VAE:
        self.observer.phase("loading", "VAE")
        vae = load_vae(self.spec.layout, self.device, self.dtype)
        if self.device.type == "cuda":
            vae.set_layout(torch.channels_last_3d)
        return vae

    def _build_kernels(self, vae: VAE | None) -> None:
        """Kernels of the hot path, built once a version and kept in the cache's folder."""
        if self.device.type != "cuda":
            return
        if (reason := accel.missing()) is not None:
            text = f"steps are slower than they could be, without kernels of our own: {reason}"
            self.report.send("log", level="WARNING", text=text, where=None)

        def told(kernel: str, share: float) -> None:
            self.observer.phase("loading", f"compiling kernels: {kernel}", share)

        with self.observer.window("compiling kernels", "other"):
            warm_up(self.cfg, self.numerics, vae, self.device, told)

    def _load(self, source: DiTSource, groups: Groups, embeddings: Embeddings) -> Loaded:
        """The DiT: shards of it, layers of it, or (on a VAE rank of its own) its outline alone."""
        dit, once = source.build(self.numerics), self._once(embeddings)
        own = outline(self.plan, self.spec.rank)["layers"]
        kept = self.held.loaded(once, lambda: compute(dit, source, once, own, self.device))
        if kept is not None:
            self.observer.phase("loading", "weights: kept from the job before")
            self.ledger.book("weights", kept[1])
            return kept[0]

        def told(unit: str, done: int, total: int) -> None:
            self.observer.phase("loading", f"weights: {unit}", done / total)

        loaded = load_network(
            self.plan,
            self.spec.rank,
            dit,
            source,
            groups,
            self.device,
            self.ledger,
            self.observer.meter,
            prefetch=self.plan.prefetch,
            on_unit=told,
            once=once,
        )
        if loaded.remark is not None:
            self.report.send("log", level="WARNING", text=loaded.remark, where=None)
        return loaded

    def _once(self, embeddings: Embeddings) -> Once:
        return Once(embeddings.context, self._schedule.timesteps)

    @property
    def _schedule(self) -> Schedule:
        return Schedule.flow_match(self.request.sample_steps, self.request.sample_shift)

    def _generation(
        self, embeddings: Embeddings, ref: Tensor, motion: Tensor, job: JobMemory | None
    ) -> Generation:
        options = Options(
            clips=embeddings.clips - self.spec.kept.seam,
            steps=self.request.sample_steps,
            shift=self.request.sample_shift,
            infer_frames=self.request.infer_frames,
            seed=self.request.base_seed,
        )
        audio = embeddings.audio[..., self.spec.kept.seam * self.request.infer_frames :]
        inputs = Inputs(ref=ref, motion=motion, context=embeddings.context, audio=audio)
        generation = Generation(
            self.cfg,
            options,
            inputs,
            dtype=self.dtype,
            device=self.device,
            **outline(self.plan, self.spec.rank),
            make_ring=self.rings.make,
            job=job,
        )
        if self.rings.remark is not None:
            self.report.send("log", level="WARNING", text=self.rings.remark, where=None)
        if self.device.type == "cpu" and self.plan.kv == "device":
            # Zeroed memory has no pages until it is written; what is booked should be there.
            for ring in generation.rings.values():
                ring.touch()
        self.ledger.book("kv", generation.kv_nbytes)
        self.ledger.add(self.rings.owner, self.rings.device_bytes)
        return generation

    def _decoder(self, vae: VAE, motion: Tensor, mirror: Mirror) -> BlockDecoder:
        with self.observer.window("warming up the decoder", "vae"):
            state = mirror.decoder_state(self.device)
            decoder = BlockDecoder(vae, motion, state, whole=mirror.first_block > 0)
        self.ledger.book("vae", weight_bytes(vae) + decoder.nbytes)
        return decoder

    @contextmanager
    def _sink(self, vae: VAE, decoder: BlockDecoder, mirror: Mirror) -> Iterator[Sink]:
        folder, video = Path(self.spec.segment_dir), self.video
        per_clip = self.request.infer_frames // BLOCK_FRAMES
        committed = self.spec.kept.committed
        with SegmentThread(
            folder, video.width, video.height, video.fps, self._clip, first=committed
        ) as segments:
            yield Sink(
                decoder,
                segments,
                self.observer,
                mirror.log,
                Clock(self.device),
                blocks_per_clip=per_clip,
                vae_bytes=weight_bytes(vae),
                began=self.began,
                dump=self.spec.dump_latents,
                committed=committed,
                decoding=committed * per_clip if decoder.resumed else mirror.first_block,
                on_boundary=mirror.decoded,
                hand_over=self._hand_over,
            )

    def _hand_over(self) -> None:
        """Between a walk and a decode: what one keeps cached does not serve the other where weights
        are gathered on a stream of their own. Giving it back waits for the device."""
        tight = self.spec.gpu_memory_cap is not None or self.plan.weights.kind == "peer_gather"
        if tight and self.device.type == "cuda":
            self.ledger.probe.trim()

    # -- what is told --------------------------------------------------------------------------

    def _clip(self, written: ClipWritten) -> None:
        self.report.send("clip", **written.to_dict())

    def _tell_result(self, made: dict[str, Any]) -> None:
        self.observer.tell_ledger(force=True)
        meter = self.observer.meter
        empty: dict[str, Any] = {
            "latents_sha256": None,
            "first_frame_seconds": None,
            "frames": 0,
            "clips": [],
            "dump": None,
        }
        self.report.send(
            "result",
            **{**empty, **made},
            unshard={"events": meter.events, "max_bytes": meter.max_bytes},
            by_owner=self.ledger.peak_by_owner,
            peak_bytes=self.ledger.peak_bytes,
        )

    def _lora(self) -> str | None:
        return self.spec.layout.get("lora") if self.request.load_lora else None
