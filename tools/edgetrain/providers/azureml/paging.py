"""Lists of the workspace's services, page by page; both of their ways to page are followed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgetrain.core.errors import Rejected

MOST_ITEMS = 100_000
# Asks for a page: its address, its query, and the body of a POST.
Ask = Callable[[str, Mapping[str, str], Mapping[str, Any]], Mapping[str, Any]]


def pages(
    ask: Ask,
    base: str,
    url: str,
    query: Mapping[str, str],
    body: Mapping[str, Any] | None,
    what: str,
    most: int = MOST_ITEMS,
) -> Iterator[Any]:
    """The items of a list at `url` of the service at `base`: a POST where there is a `body`.

    `nextLink` leads to the next page, or a `continuationToken` (into the body of a POST, else into the query).
    Raises Rejected for more than `most` items, and for a page that leads away from the service.
    """
    seen, count, posts, body = set[str](), 0, body is not None, dict(body or {})
    while True:
        page = ask(url, query, body)
        items = page.get("value")
        for item in items if isinstance(items, list) else []:
            count += 1
            if count > most:
                raise _too_many(f"{what}: more than {most} items")
            yield item
        link, token = page.get("nextLink"), page.get("continuationToken")
        mark = json.dumps([link, token])
        if not (link or token) or mark in seen:
            return
        seen.add(mark)
        if len(seen) > most:  # pages without items must come to an end too
            raise _too_many(f"{what}: more than {most} pages")
        if token and (posts or not link):
            body = {**body, "continuationToken": token}
            query = query if posts else {**query, "continuationToken": str(token)}
            continue
        url, query = str(link), {}
        if not url.startswith(f"{base}/"):
            raise Rejected(
                f"{what}: the next page is elsewhere",
                reason="Redirected",
                fix="report this: it is a fault of edgetrain, or of the cloud's endpoints",
            )


def _too_many(message: str) -> Rejected:
    return Rejected(message, reason="TooMany", fix="archive or remove old ones in the workspace")
