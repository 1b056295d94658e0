"""What a published model meets: a name that may be a folder or a repository, and images as others hold them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import torch
from torch import Tensor

from distractor_data.errors import DmaskError


def published(name: str, revision: str | None, token: str | bool | None, cache: Any) -> None:
    """Raise `DmaskError` where `name` is no repository of the Hub that can be read, or not without a connection.

    Asks once: `huggingface_hub` by itself tries again for half a minute before it says so.
    """
    import httpx2
    from huggingface_hub import HfApi, errors, try_to_load_from_cache

    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name):
        raise DmaskError(f"{name}: no such folder; give one that `masklam train` wrote, or org/name on the Hub")
    try:
        HfApi(token=token).model_info(name, revision=revision, timeout=10)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        what = "revision of it" if isinstance(error, errors.RevisionNotFoundError) else "model"
        raise DmaskError(f"{name}: no such folder, nor such a {what} on the Hub that the token may see") from error
    except errors.HfHubHTTPError:
        return  # for `huggingface_hub` to try again
    except (httpx2.TransportError, ConnectionError) as error:
        if not isinstance(try_to_load_from_cache(name, "config.json", cache, revision), str):
            raise DmaskError(f"{name}: no such folder, and the Hub can't be reached") from error


def pictures(images: Any, size: int) -> Tensor:
    """PIL images or uint8 arrays, one, several or a batch → (B, size, size, 3) uint8.

    Raises `DmaskError` for another size or type. Channels may come first, as with `datasets`' format `torch`.
    """
    if hasattr(images, "convert"):
        images = images.convert("RGB")
    elif not hasattr(images, "shape"):  # a list, or a column of `datasets`
        parts = [pictures(image, size) for image in images]
        if not parts:
            raise DmaskError(f"there are no images; give uint8 images of {size}×{size} pixels")
        return torch.cat(parts)
    found = torch.as_tensor(np.array(images) if not isinstance(images, Tensor) else images)
    whole = found[None] if found.ndim == 3 else found
    if whole.ndim == 4 and whole.shape[-1] != 3 and whole.shape[1] == 3:
        whole = whole.permute(0, 2, 3, 1)
    if whole.dtype != torch.uint8 or tuple(whole.shape[1:]) != (size, size, 3):
        kind = str(found.dtype).removeprefix("torch.")
        raise DmaskError(
            f"images are {kind} {tuple(found.shape)}; this model takes uint8 images of {size}×{size} pixels: "
            f"({size}, {size}, 3), or (B, {size}, {size}, 3)"
        )
    return whole
