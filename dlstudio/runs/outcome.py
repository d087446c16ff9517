"""Why a loop ended, in words."""

from __future__ import annotations


def describe_error(error: BaseException | None) -> str:
    """Say in words why a loop ended, with what to change where that is known."""
    name, text = type(error).__name__, str(error).strip()
    first = text.splitlines()[0] if text else ""
    if name == "OutOfMemoryError" or "CUDA out of memory" in text:
        return (
            f"out of GPU memory: {first} Halve batch_size (and double accumulate to keep the effective batch), "
            "or use precision='bf16-mixed'."
        )
    if isinstance(error, MemoryError) or "can't allocate memory" in text or "not enough memory" in text:
        return f"out of host memory ({name}: {first}). Use a smaller batch_size, data set or model."
    return f"{name}: {first}" if first else name
