"""How the emulator behaves: what a person or a test chooses when it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """`folder` is the data folder. Times in seconds.

    `strict` enforces what only the service enforces: name rules, immutable properties, limits of tags.
    `attach_by_address` is `refuse` or `allow`. `hosts` maps a VM's resource id (any case) to `host:port` of the
    machine that stands for it. `lag` is how long a write stays unseen by queries and lists (not by a get by id).
    `slow` is how long each intermediate state of runs and attachments lasts. `throttle` answers 429 (of blobs 503)
    to every n-th request (0: never). `token_life` is that of access and run tokens, `sas_life` that of signed
    addresses. `page_size` is how much of a list comes at once. With `onward` the proxy leads on to hosts that are
    not the service's. `registry` is the base address of a running Docker distribution registry behind the token
    exchange, empty for none. `python` is the interpreter of runs on Kubernetes targets (the documented local
    executor). `cache` keeps built environments (None: in the data folder). `patience` is how long a machine may be
    unreachable before its runs fail.
    """

    folder: Path
    port: int = 0
    proxy_port: int = 0
    strict: bool = True
    attach_by_address: str = "refuse"
    hosts: dict[str, str] = field(default_factory=dict)
    lag: float = 0.0
    slow: float = 0.0
    throttle: int = 0
    token_life: float = 3600.0
    sas_life: float = 3600.0
    page_size: int = 100
    onward: bool = False
    registry: str = ""
    python: str = ""
    cache: Path | None = None
    patience: float = 300.0
    subscription: str = "00000000-0000-4000-8000-0000000000a1"
    group: str = "rg-edge"
    workspace: str = "ws-edge"
    tenant: str = "00000000-0000-4000-8000-0000000000b2"
    region: str = "local"
    storage: str = "emustorage"
    acr: str = "emuacr"
