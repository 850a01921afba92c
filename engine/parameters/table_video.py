"""Parameters of what a video shows, and of the model that makes it."""

from __future__ import annotations

from typing import Final

from engine.parameters.parameter import Parameter

_P = Parameter

VIDEO: Final[tuple[Parameter, ...]] = (
    _P(
        "prompt",
        "text",
        "inputs",
        "What the video shows: person, clothes, pose, scene, light, style, in any language. "
        "Steers appearance and manner; short or contradictory prompts give vague results.",
        env=("PROMPT",),
    ),
    _P(
        "image",
        "file",
        "inputs",
        "The portrait: a readable picture of at least 512x512, frontal and evenly lit. "
        "Gives identity and, by its aspect, the shape of the frame.",
        env=("IMAGE_PATH",),
        aliases=("image_path",),
    ),
    _P(
        "audio",
        "file",
        "inputs",
        "The voice: WAV, MP3 or any audio file of at least 16 kHz. Drives lips and expression; "
        "its length bounds the video's.",
        env=("AUDIO_PATH",),
        aliases=("audio_path",),
    ),
    _P(
        "size",
        "size",
        "generation",
        "Frame area as width*height (or WxH), at least 64*64; snapped to multiples of 64 by the "
        "portrait's aspect. Time and memory grow with the area, attention faster.",
        env=("INFER_RES", "RESOLUTION"),
        aliases=("resolution",),
    ),
    _P(
        "num_clip",
        "int",
        "generation",
        "Most clips to make, 1 or more; the audio's end stops earlier. "
        "Length = infer_frames x clips - 3 frames.",
        env=("CLIP_COUNT",),
        minimum=1,
    ),
    _P(
        "infer_frames",
        "int",
        "generation",
        "Video frames per clip, a multiple of 12 (one block). More per clip means fewer commits, "
        "not more memory: the KV ring stays 12 latent frames.",
        minimum=12,
        maximum=1200,
        multiple_of=12,
    ),
    _P(
        "sample_steps",
        "int",
        "generation",
        "Denoising steps per block, 1 to 1000; the model is distilled for 4, 3 is faster, 5-6 "
        "finer. Time and KV memory grow in proportion.",
        env=("SAMPLE_STEPS",),
        minimum=1,
        maximum=1000,
    ),
    _P(
        "sample_guide_scale",
        "float",
        "generation",
        "Classifier-free guidance. Only 0: the model is distilled without guidance and this "
        "version has no second, unconditional pass.",
        minimum=0,
    ),
    _P(
        "sample_solver",
        "choice",
        "generation",
        "How the flow is integrated. Only euler: the distilled schedule was trained with it.",
        choices=("euler",),
    ),
    _P(
        "sample_shift",
        "float",
        "generation",
        "Shift of the noise schedule, above 0 to 20. 3 is what the model was distilled with; "
        "higher spends the steps at higher noise.",
        minimum=0.01,
        maximum=20,
    ),
    _P(
        "base_seed",
        "int",
        "generation",
        "Seed of every random draw, 0 to 2^63-1. The same seed and request give bitwise the same "
        "latents in every mode.",
        minimum=0,
        maximum=2**63 - 1,
    ),
    _P(
        "enable_online_decode",
        "bool",
        "generation",
        "Decode while generating. Always on here: every block is decoded as soon as it is done, "
        "so memory does not grow with length.",
        env=("ENABLE_ONLINE_DECODE",),
    ),
    _P(
        "task",
        "choice",
        "generation",
        "The model family. Only s2v-14B, speech to video; the checkpoint gives the shape.",
        choices=("s2v-14B",),
    ),
    _P(
        "ckpt_dir",
        "path",
        "model files",
        "Folder of the checkpoint (Wan2.2-S2V-14B layout): DiT shards, VAE, T5, wav2vec2.",
        env=("MODEL_CKPT_DIR", "CKPT_DIR"),
    ),
    _P(
        "t5_path",
        "path",
        "model files",
        "umT5 encoder weights, where they lie outside ckpt_dir.",
        env=("T5_PATH",),
    ),
    _P(
        "vae_path",
        "path",
        "model files",
        "VAE weights, where they lie outside ckpt_dir.",
        env=("VAE_PATH",),
    ),
    _P(
        "wav2vec_path",
        "path",
        "model files",
        "wav2vec2 folder, where it lies outside ckpt_dir.",
        env=("WAV2VEC_PATH",),
    ),
    _P(
        "load_lora",
        "bool",
        "model files",
        "Merge the LoRA of lora_path_dmd into the DiT while loading. Costs load time only.",
    ),
    _P(
        "lora_path_dmd",
        "path",
        "model files",
        "The LoRA: a safetensors file, a folder with one, or a Hub id in the local cache. "
        "Read only with load_lora.",
        hub=True,
    ),
)
