"""SAM 2's own video model, built from its own configs and weights, changed in one place only: frames of many
videos can be conditioned on their memories in one batch.

Weights: Hugging Face Hub, `sam2.build_sam`'s ids and file names, or a local file in the official checkpoint
format (`{"model": state_dict}`).
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distractor_data import untrusted
from distractor_data.errors import DmaskError, nearest

try:
    import torch
    from sam2.build_sam import HF_MODEL_ID_TO_FILENAMES, build_sam2_video_predictor
    from sam2.sam2_video_predictor import SAM2VideoPredictor, SAM2VideoPredictorVOS
except ImportError as missing:
    raise DmaskError(f"{missing}; SAM 2 is an optional part: pip install 'dmask[sam2]'") from missing

DEFAULT_MODEL = "facebook/sam2.1-hiera-tiny"
STRIDE = 32  # of the encoder's coarsest map: image sizes are its multiples


class _Lockstep(SAM2VideoPredictor if TYPE_CHECKING else object):  # type: ignore[misc]
    """Mixin for a `SAM2VideoPredictor`: `track_step` with a `MemoryBank`'s reading as its `output_dict`."""

    def _prepare_memory_conditioned_features(
        self,
        frame_idx,
        is_init_cond_frame,
        current_vision_feats,
        current_vision_pos_embeds,
        feat_sizes,
        output_dict,
        num_frames,
        track_in_reverse=False,
    ):
        if is_init_cond_frame:
            return super()._prepare_memory_conditioned_features(
                frame_idx=frame_idx,
                is_init_cond_frame=True,
                current_vision_feats=current_vision_feats,
                current_vision_pos_embeds=current_vision_pos_embeds,
                feat_sizes=feat_sizes,
                output_dict=output_dict,
                num_frames=num_frames,
            )
        features = self.memory_attention(  # (h*w, B, C)
            curr=current_vision_feats, curr_pos=current_vision_pos_embeds, **output_dict
        )
        return features.permute(1, 2, 0).unflatten(2, feat_sizes[-1])  # (B, C, h, w)


class LockstepPredictor(_Lockstep, SAM2VideoPredictor):
    """Runs as it is."""


class CompiledLockstepPredictor(_Lockstep, SAM2VideoPredictorVOS):
    """The same through `torch.compile`, and CUDA graphs where there is CUDA, as sam2's `vos_optimized` does."""


def resolve(model: str) -> tuple[str, Path]:
    """Config name and checkpoint file of a Hub id or of a local `.pt` file.

    A file belongs to the model whose official file name its name begins with or, named otherwise, to
    SAM 2.1 hiera-tiny. Raises `DmaskError` where neither is there.
    """
    path = untrusted.expanded(model)
    if path.is_file():
        stems = {Path(file).stem: config for config, file in HF_MODEL_ID_TO_FILENAMES.values()}
        fitting = [stem for stem in stems if path.stem.startswith(stem)]
        return stems[max(fitting, key=len, default="sam2.1_hiera_tiny")], path
    if model not in HF_MODEL_ID_TO_FILENAMES:
        known = list(HF_MODEL_ID_TO_FILENAMES)
        raise DmaskError(
            f"--model {model!r} is neither a file nor one of SAM 2's models ({', '.join(known)})"
            + nearest(model, known)
        )
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    config, file = HF_MODEL_ID_TO_FILENAMES[model]
    hub_log = logging.getLogger("huggingface_hub")
    level = hub_log.level
    hub_log.setLevel(logging.ERROR)  # it tells of every try, in two lines each
    try:
        return config, Path(hf_hub_download(repo_id=model, filename=file))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise DmaskError(
            f"can't fetch {file} of {model} from the Hugging Face Hub ({type(error).__name__}); download the file "
            f"where there is network and pass it: --model /path/to/{file}"
        ) from error
    finally:
        hub_log.setLevel(level)


def _check_weights(model: torch.nn.Module, path: Path) -> None:
    """Load `path` into `model`; `DmaskError` for a truncated file, another model's, or values that are none."""
    advice = "pass SAM 2's official checkpoint of this model, whole"
    untrusted.check_checkpoint(path, advice)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a forged archive makes PyTorch raise whatever it likes
        raise DmaskError(f"{path} is damaged or no checkpoint of PyTorch; {advice}") from error
    weights = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict):
        raise DmaskError(f"{path} holds no 'model' weights, so it is not a checkpoint of SAM 2; {advice}")
    own = model.state_dict()
    odd = sorted(map(str, set(own) ^ set(weights))) or [name for name in own if not _fits(own[name], weights[name])]
    if odd:
        raise DmaskError(
            f"{path} holds another model's weights ({len(odd)} tensors differ, the first is {odd[0]}); {advice}"
        )
    if broken := [name for name, weight in weights.items() if not torch.isfinite(weight).all()]:
        raise DmaskError(f"{path}: {broken[0]} is not finite; {advice}")
    model.load_state_dict(weights)


def _fits(own: torch.Tensor, given: Any) -> bool:
    """Whether a value of a checkpoint is a tensor that can take the place of the model's own."""
    return (
        isinstance(given, torch.Tensor)
        and given.shape == own.shape
        and given.layout == own.layout
        and given.device.type == "cpu"
        and given.is_floating_point() == own.is_floating_point()
        and not given.is_complex()
    )


def rotary_overrides(image_size: int) -> list[str]:
    """Config overrides that size the rotary encodings at once: compiled code can't do it when it first runs."""
    layer, side = "++model.memory_attention.layer", image_size // 16
    return [f"{layer}.{part}.feat_sizes=[{side},{side}]" for part in ("self_attention", "cross_attention")]


def build(
    model: str, image_size: int = 1024, device: str = "cpu", compile: bool = False
) -> LockstepPredictor | CompiledLockstepPredictor:
    """The predictor with its weights on `device`, for square inputs of `image_size` pixels."""
    if image_size < 64 or image_size % STRIDE:
        raise DmaskError(
            f"--image-size is {image_size}; give a multiple of {STRIDE}, at least 64 (SAM 2's own: 1024)"
        )
    config, path = resolve(model)
    target = CompiledLockstepPredictor if compile else LockstepPredictor
    logging.getLogger("root").setLevel(logging.WARNING)  # sam2 logs each build
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor: Any = build_sam2_video_predictor(
            config,
            ckpt_path=None,
            device="cpu",
            hydra_overrides_extra=[
                f"++model._target_={target.__module__}.{target.__qualname__}",
                f"++model.image_size={image_size}",
                *rotary_overrides(image_size),
            ],
        )
    _check_weights(predictor, path)
    predictor.requires_grad_(False)
    return predictor.to(device)
