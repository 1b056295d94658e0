"""Waiting for a Hub that asks to, within reason, and what it refuses in one line."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from distractor_data.errors import DmaskError

if TYPE_CHECKING:
    import httpx2

PATIENCE = 300.0  # seconds that are waited in all for one push, pull or load
RETRIES = 3
AGAIN = "; what was sent or fetched is kept, run the same command again"
_WAITED_FOR = (403, 408, 429, 500, 502, 503, 504)
_GRANTED = "dmask.wait"  # extension of a response: the seconds that are to be waited before the next try
T = TypeVar("T")


class Busy(DmaskError):
    """The Hub asks to come back after `seconds`, which is longer than a command waits."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class _Patience:
    """What is left of `PATIENCE`, shared by the threads that upload."""

    def __init__(self) -> None:
        self.left, self.lock = PATIENCE, threading.Lock()

    def grants(self, seconds: float) -> bool:
        """Whether so long a wait can be afforded; if so it is taken off."""
        with self.lock:
            affordable = seconds <= self.left
            self.left -= seconds if affordable else 0.0
            return affordable


_patience = _Patience()


def _asked(response: httpx2.Response) -> float | None:
    """The seconds after which the Hub wants to be asked again; None where it says nothing."""
    from huggingface_hub.utils import parse_ratelimit_headers

    limit = parse_ratelimit_headers(response.headers)
    if response.status_code == 429 and limit is not None and limit.remaining == 0:
        return max(1.0, limit.reset_in_seconds)
    after = response.headers.get("Retry-After", "")
    return max(1.0, float(after)) if after.isdecimal() else None


def _refuse_long_waits(response: httpx2.Response) -> None:
    """Before `huggingface_hub` sleeps for as long as it is asked to, which may be hours."""
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code in _WAITED_FOR and (seconds := _asked(response)) is not None:
        if not _patience.grants(seconds):
            hf_raise_for_status(response)
        response.extensions[_GRANTED] = seconds


def patiently(call: Callable[[], T]) -> T:
    """Call, and call again where the Hub asks to wait or stumbles; only for what may be repeated."""
    from huggingface_hub.errors import HfHubHTTPError

    stumbles = 0
    while True:
        try:
            return call()
        except HfHubHTTPError as error:
            wait = error.response.extensions.get(_GRANTED)
            if wait is None:
                stumbles += 1
                waits = error.response.status_code in (429, 500, 502, 503, 504) and _asked(error.response) is None
                if not waits or stumbles == RETRIES:
                    raise
                wait = 2.0 ** (stumbles - 1)
        time.sleep(wait)


@contextmanager
def hub_errors(name: str, action: str) -> Iterator[None]:
    """Turn what the Hub and the connection can refuse into one line that says what to do."""
    import httpx2
    from huggingface_hub import errors, get_session

    global _patience
    _patience, client = _Patience(), get_session()
    if _refuse_long_waits not in (hooks := client.event_hooks)["response"]:
        client.event_hooks = {**hooks, "response": [*hooks["response"], _refuse_long_waits]}
    start = f"can't {action} {name}"
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        hint = "there is no such repository, or the token may not see it"
        raise DmaskError(f"{start}: {hint}") from error
    except errors.RevisionNotFoundError as error:
        raise DmaskError(f"{start}: it has no such revision; see its tags and branches") from error
    except errors.HfHubHTTPError as error:
        raise _refusal(start, error) from error
    except (
        httpx2.HTTPError,
        httpx2.InvalidURL,
        errors.OfflineModeIsEnabled,
        errors.LocalEntryNotFoundError,
    ) as error:
        raise _unreachable(start) from error
    except json.JSONDecodeError as error:
        raise DmaskError(f"{start}: what answered is no Hub; is there a proxy, or a wrong HF_ENDPOINT?") from error
    except RuntimeError as error:  # in which huggingface_hub wraps what breaks in a thread that uploads
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise _refusal(start, error.__cause__) from error
        if isinstance(error.__cause__, httpx2.HTTPError):
            raise _unreachable(start) from error
        if "home directory" in str(error):  # what `Path.expanduser` says
            raise DmaskError(
                f"{start}: this user has no home folder; set HF_HOME to a folder for the cache"
            ) from error
        raise
    except (OSError, ValueError) as error:  # of which huggingface_hub has no kinds of its own
        said = " ".join(str(error).split())
        if said.startswith("Consistency check failed"):
            raise DmaskError(f"{start}: a file came with another size than the Hub states{AGAIN}") from error
        if said.startswith("LFS batch API returned errors"):
            raise DmaskError(f"{start}: the Hub refused it ({said.partition(': ')[2]})") from error
        raise


def _unreachable(start: str) -> DmaskError:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return DmaskError(f"{start}: HF_HUB_OFFLINE is set, and it is not all in the cache; unset it")
    return DmaskError(f"{start}: the connection to the Hub broke{AGAIN}")


def _refusal(start: str, error: Any) -> DmaskError:
    """What an HTTP status means to the one who pushes or pulls, with the Hub's own words."""
    status, said = error.response.status_code, " ".join((error.server_message or "").split())
    if status == 401:
        return DmaskError(f"{start}: the token was refused; log in again with `hf auth login`, or set HF_TOKEN")
    if status == 403:
        hint = "if the token may not write there, use one with write access, or a name of your own"
        return DmaskError(f"{start}: the Hub refused it{f' ({said})' if said else ''}; {hint}")
    if status == 412:
        return DmaskError(f"{start}: others keep writing to it; run the same command again")
    if status == 422:
        return DmaskError(f"{start}: what arrived is not what was sent (checksum){AGAIN}")
    words = f"the Hub answered {status}{f' ({said})' if said else ''}"
    if (seconds := _asked(error.response)) is not None:
        return Busy(f"{start}: {words}; in {_span(seconds)} it may be asked again{AGAIN}", seconds)
    return DmaskError(f"{start}: {words}{AGAIN}")


def _span(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 120 else f"{seconds / 60:.0f} minutes"
