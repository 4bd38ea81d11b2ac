"""The forge over GitHub's REST API: pull requests, reviews, checks, comments, issues, artifacts."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from edgetrain.core.errors import Denied, NotFound, Rejected
from edgetrain.core.ports import Account, Check, CheckResult, PullRequest, Review, Settings, WorkflowRun
from edgetrain.core.ports.forge import MOST_FILES
from edgetrain.core.secret import Secret
from edgetrain.providers.github import reading, threads
from edgetrain.providers.github.app import CALLS, PUSH, App, Given, Minted, own_account
from edgetrain.providers.github.client import Client, path
from edgetrain.providers.github.marks import check_length, marked, same
from edgetrain.providers.github.transport import Transport, check_secure
from edgetrain.providers.outbound import proxy_for


class GithubForge:
    """One repository there. `client` calls in our name; `app` is None where its key is not on this machine."""

    def __init__(
        self,
        settings: Settings,
        *,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:
        block = settings.block
        self._repository = str(block["repository"])
        self._server = check_secure(str(block.get("server", "https://github.com")).rstrip("/"))
        self.block, self._outbound = block, settings.outbound
        self.branch = str(block.get("branch", "main"))
        self.environment = str(block.get("environment", "edgetrain-release"))
        self.pushes = "app" in block and block.get("push", "app") == "app"  # records, by a credential of ours
        self.transport = Transport(str(block.get("api", "https://api.github.com")), settings.outbound)
        self._secret, self._sleep, self._now = settings.secret, sleep, now
        self._making = threading.RLock()
        self._made: tuple[Client, App | None] | None = None
        self._us: Account | None = None

    # --- who we are --------------------------------------------------------------------------------------

    @property
    def repository(self) -> str:
        return self._repository

    @property
    def host(self) -> str:
        return urlsplit(self._server).hostname or ""

    @property
    def client(self) -> Client:
        """Made at first use. Raises Denied where no credential is on this machine."""
        return self._both()[0]

    @property
    def app(self) -> App | None:
        """The App, if its key is on this machine."""
        return self._both()[1]

    def _both(self) -> tuple[Client, App | None]:
        with self._making:
            if self._made is None:
                self._made = self._sign_in()
            return self._made

    def _sign_in(self) -> tuple[Client, App | None]:
        reasons = []
        if "app" in self.block:
            declared = self.block["app"]
            try:
                key = self._secret(declared["privateKey"]["secret"])
            except (NotFound, Denied) as error:
                if error.reason == "SecretExposed":
                    raise
                reasons.append(error.message)
            else:
                app = App(
                    self.transport, str(declared["id"]), key, self._repository, now=self._now, sleep=self._sleep
                )
                return Client(self.transport, Minted(app, lambda: CALLS), self._sleep), app
        if "token" in self.block:
            try:
                token = self._secret(self.block["token"]["secret"])
            except NotFound as error:
                reasons.append(error.message)
            else:
                return Client(self.transport, Given(token), self._sleep), None
        raise Denied(
            f"no credential for {self.host}: {'; '.join(reasons) or 'spec.forge names none'}",
            reason="NoCredential",
            fix="put the App's key, or a token, where the secret that spec.forge names is read",
        )

    def us(self) -> Account:
        """Our own account there."""
        with self._making:
            if self._us is None:
                self._us = own_account(self.client, self.client.credential, self.app)
            return self._us

    def diagnose(self) -> Sequence[Check]:
        from edgetrain.providers.github.diagnosis import diagnose

        return diagnose(self)

    def settings(self) -> Sequence[Check]:
        from edgetrain.providers.github.settings import settings

        return settings(self)

    def push_settings(self) -> Mapping[str, str]:
        if not self.pushes:
            return {}
        token = self.app.mint(PUSH).secret if self.app else self.client.credential.token()
        # Git sends such a header to whatever host it was redirected to, from its second request on.
        own = f"http.{self._server}/."
        found = {f"{own}extraheader": _basic(token), f"{own}followRedirects": "false"}
        if proxy := proxy_for(self._outbound, self.host):
            found[f"{own}proxy"] = proxy
        if self._outbound.ca_bundle:
            found[f"{own}sslCAInfo"] = self._outbound.ca_bundle
        return found

    # --- pull requests -----------------------------------------------------------------------------------

    def where(self, *parts: object) -> str:
        """A path under the repository's."""
        return path("repos", *self._repository.split("/"), *parts)

    def _whole(self, number: int) -> Any:
        return self.client.get(self.where("pulls", number), f"see pull request {number}")

    def _pull(self, value: Any) -> PullRequest:
        return reading.read(self.client.host, reading.pull_request, value)

    def pull_request(self, number: int) -> PullRequest:
        return self._pull(self._whole(number))

    def pull_requests_of(self, commit: str) -> Sequence[PullRequest]:
        listed = self.client.pages(
            self.where("commits", commit, "pulls"), f"see the pull requests of {commit[:12]}"
        )
        values = [one for one in listed if one.get("merged_at")]
        whole = [self.pull_request(number) for number in sorted({self._pull(one).number for one in values})]
        whole.sort(key=lambda one: one.merged_at or "")
        return tuple(one for one in whole if one.base == self.branch)

    def open_pull_requests(self, prefix: str) -> Sequence[PullRequest]:
        listed = self.client.pages(self.where("pulls"), "see the open pull requests", state="open")
        found = [self._pull(one) for one in listed]
        return tuple(one for one in found if self._is_here(one) and one.branch.startswith(prefix))

    def pull_requests_at(self, run: WorkflowRun) -> Sequence[PullRequest]:
        # Not asked for by the head's owner and branch: the fork may be gone, and its pull request still there.
        listed = self.client.pages(
            self.where("pulls"), f"see the pull requests of run {run.id}", state="open", base=self.branch
        )
        found = [self._pull(one) for one in listed]
        return tuple(one for one in found if one.base == self.branch and one.is_of(run))

    def _is_here(self, pull: PullRequest) -> bool:
        return pull.repository.lower() == self._repository.lower()

    def reviews(self, number: int) -> Sequence[Review]:
        listed = self.client.pages(self.where("pulls", number, "reviews"), f"see the reviews of {number}")
        found = [reading.read(self.client.host, reading.review, one) for one in listed]
        return tuple(sorted((one for one in found if one is not None), key=lambda one: one.time))

    def changed_files(self, number: int) -> Sequence[str]:
        # Each file comes with its changes: more on a page could be too large an answer.
        listed = self.client.pages(
            self.where("pulls", number, "files"), f"see the files of {number}", most=MOST_FILES // 30 + 1, size=30
        )
        found = (reading.read(self.client.host, reading.changed, one) for one in islice(listed, MOST_FILES))
        return tuple(sorted({path for paths in found for path in paths}))

    def checks(self, commit: str) -> Sequence[CheckResult]:
        listed = self.client.pages(
            self.where("commits", commit, "check-runs"),
            f"see the checks of {commit[:12]}",
            "check_runs",
            filter="latest",
        )
        found = sorted(
            (reading.read(self.client.host, reading.check, one) for one in listed), key=lambda one: one[0]
        )
        newest = {result.name: result for _, result in found}
        return tuple(newest[name] for name in sorted(newest))

    def propose(
        self,
        branch: str,
        title: str,
        body: str,
        reviewers: Collection[str] = (),
        labels: Collection[str] = (),
    ) -> PullRequest:
        check_length(body)
        value = self.client.again(lambda: self._proposed(branch, title, body))
        number = self._pull(value).number
        lacking = sorted(set(labels) - reading.read(self.client.host, reading.labels, value))
        if lacking:
            self.client.send(
                "POST",
                self.where("issues", number, "labels"),
                f"label {number}",
                {"labels": lacking},
                harmless=True,
            )
        if reviewers:
            self._ask(value, number, reviewers)
        return self._pull(value)

    def _proposed(self, branch: str, title: str, body: str) -> Any:
        owner = self._repository.partition("/")[0]
        number = self._number_of(owner, branch)
        if number is None:
            wanted = {"title": title, "head": branch, "base": self.branch, "body": body}
            try:
                return self.client.send("POST", self.where("pulls"), f"propose {branch}", wanted)
            except Rejected:
                number = self._number_of(owner, branch)  # somebody else was first
                if number is None:
                    raise
        value = self._whole(number)
        if value.get("title") == title and same(value.get("body"), body):
            return value
        return self.client.send(
            "PATCH", self.where("pulls", number), f"describe {number}", {"title": title, "body": body}
        )

    def _number_of(self, owner: str, branch: str) -> int | None:
        listed = self.client.pages(
            self.where("pulls"),
            f"see the pull request of {branch}",
            state="open",
            head=f"{owner}:{branch}",
            base=self.branch,
        )
        for one in listed:
            pull = self._pull(one)
            if pull.open and pull.branch == branch and self._is_here(pull) and pull.base == self.branch:
                return pull.number
        return None

    def _ask(self, value: Any, number: int, reviewers: Collection[str]) -> None:
        asked = reading.read(self.client.host, reading.asked, value)
        known = asked | {one.account.login.lower() for one in self.reviews(number)}
        known.add(self._pull(value).author.login.lower())
        owner = self._repository.partition("/")[0].lower()
        for name in sorted(set(reviewers)):
            org, slash, team = name.lower().rpartition("/")
            if slash + team in known or (org and org != owner):
                continue
            body = {"team_reviewers": [team]} if slash else {"reviewers": [name]}
            try:
                self.client.send(
                    "POST",
                    self.where("pulls", number, "requested_reviewers"),
                    f"ask {name} for a review",
                    body,
                    harmless=True,
                )
            except (Denied, NotFound, Rejected):
                continue  # who can't be asked is left out

    def close(self, number: int) -> None:
        if self.pull_request(number).open:
            self.client.send("PATCH", self.where("pulls", number), f"close {number}", {"state": "closed"})

    # --- comments and issues -----------------------------------------------------------------------------

    def comment(self, number: int, mark: str, parts: Sequence[str]) -> None:
        threads.comment(self, number, mark, marked(mark, parts))

    def issue(self, mark: str, title: str, body: str | None, labels: Collection[str] = ()) -> int | None:
        if body is None:
            threads.end(self, mark)
            return None
        return threads.issue(self, mark, title, marked(mark, [body])[0], labels)

    # --- runs of workflows -------------------------------------------------------------------------------

    def workflow_run(self, run: int) -> WorkflowRun:
        found = self.client.get(self.where("actions", "runs", run), f"see run {run}")
        return reading.read(self.client.host, reading.workflow_run, found)

    def artifact(self, run: int, name: str, most: int) -> bytes:
        what = f"get artifact {name} of run {run}"
        listed = self.client.pages(self.where("actions", "runs", run, "artifacts"), what, "artifacts", name=name)
        found = sorted(
            reading.read(self.client.host, reading.artifact, one)
            for one in listed
            if one.get("name") == name and not one.get("expired")
        )
        if not found:
            raise NotFound(f"run {run} has no artifact {name}", reason="NotThere", fix="look at the run's own page")
        number, size = found[-1]
        if size > most:
            raise Rejected(
                f"artifact {name} of run {run} has {size} bytes, more than {most}",
                reason="TooLarge",
                fix="look at the run that made it",
            )
        return self.client.download(self.where("actions", "artifacts", number, "zip"), what, most)


def _basic(token: Secret) -> str:
    pair = base64.b64encode(f"x-access-token:{token.reveal()}".encode()).decode()
    return f"AUTHORIZATION: basic {pair}"


def from_settings(settings: Settings) -> GithubForge:
    """The factory of the table of providers."""
    return GithubForge(settings)
