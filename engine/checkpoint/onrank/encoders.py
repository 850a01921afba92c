"""The VAE's weights onto a device; the state dicts of umT5 and wav2vec2 for their own loaders."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from engine.checkpoint.errors import CheckpointError
from engine.checkpoint.header import DOWNLOAD_AGAIN
from engine.checkpoint.onrank.files import state_dict
from engine.checkpoint.onrank.slab import Allocator, Spec, allocate, carve
from engine.checkpoint.parts import component
from engine.model.vae import VAE, VAEConfig
from engine.sentence import sentence


def place(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    *,
    where: str = "",
    allocator: Allocator = allocate,
) -> None:
    """Give the parameters of ``module`` (on meta) the ``tensors`` of their names, in one slab.

    Args:
        dtype: of the parameters; ``None`` keeps the tensors'.
        where: the file, for the error.

    Raises:
        CheckpointError: a tensor is missing or has another shape.
    """
    specs: dict[str, Spec] = {}
    for name, parameter in module.named_parameters():
        found = tensors.get(name)
        if found is None or found.shape != parameter.shape:
            raise CheckpointError(
                sentence("a tensor is missing") if found is None else sentence("wrong shape"),
                where=where,
                why="" if found is None else f"{list(found.shape)}, not {list(parameter.shape)}",
                tensor=name,
                remedy=DOWNLOAD_AGAIN,
            )
        specs[name] = Spec(dtype or found.dtype, tuple(found.shape))
    for name, view in carve(specs, torch.device(device), allocator).items():
        view.copy_(tensors[name])
        path, _, key = name.rpartition(".")
        setattr(module.get_submodule(path), key, nn.Parameter(view, requires_grad=False))


def load_vae(
    paths: Mapping[str, str],
    device: torch.device | str,
    dtype: torch.dtype | None = None,
    *,
    allocator: Allocator = allocate,
) -> VAE:
    """The VAE of ``Layout.paths()`` on ``device``, in evaluation mode.

    Raises:
        CheckpointError: missing, damaged, or not this VAE.
    """
    where = component(paths, "vae")
    tensors = state_dict(where)
    try:
        config = VAEConfig.from_shapes({name: t.shape for name, t in tensors.items()})
    except ValueError as error:
        raise CheckpointError(
            sentence("not the VAE of Wan 2.1"), where=where, why=str(error), remedy=DOWNLOAD_AGAIN
        ) from error
    with torch.device("meta"):
        vae = VAE(config)
    place(vae, tensors, device, dtype, where=where, allocator=allocator)
    return vae.eval()
