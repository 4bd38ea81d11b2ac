"""Workflow runs, their artifacts and checks, as the driver of the workflows tells the stand-in of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

from testbed.github import routes_actions, shapes
from testbed.github.store import ACTIONS_APP, ACTIONS_BOT, Record, Store

KEPT = 90  # days


class Checks:
    """Results of checks, by commit."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self,
        repository: str,
        commit: str,
        name: str,
        conclusion: str | None = "success",
        *,
        run: int = 0,
        title: str | None = None,
        summary: str | None = None,
        app: int = ACTIONS_APP,
    ) -> int:
        """A new result; with None it is still under way. Its number. `app` is the App that reports it: by default
        GitHub Actions."""
        with self._store.changing():
            record = self._store.repository(repository)
            number, now = self._store.number(), self._store.now()
            suite = record["runs"][str(run)]["suite"] if run else self._store.number()
            record["checks"][str(number)] = {
                "id": number,
                "head_sha": commit,
                "name": name,
                "status": "completed" if conclusion else "in_progress",
                "conclusion": conclusion,
                "started_at": now,
                "completed_at": now if conclusion else None,
                "run": run,
                "suite": suite,
                "title": title,
                "summary": summary,
                "app": app,
            }
            return number

    def finish(self, repository: str, number: int, conclusion: str) -> None:
        """End one that is under way."""
        with self._store.changing():
            record = self._store.repository(repository)["checks"][str(number)]
            record |= {"status": "completed", "conclusion": conclusion, "completed_at": self._store.now()}

    def of(self, repository: str, commit: str) -> dict[str, str | None]:
        """The newest conclusion of each check of the commit."""
        with self._store.lock:
            found = self._store.repository(repository)["checks"].values()
            return {one["name"]: one["conclusion"] for one in found if one["head_sha"] == commit}


class Jobs:
    """Part of `GithubServer`."""

    store: Store

    def add_workflow_run(
        self,
        repository: str,
        *,
        workflow: str,
        event: str,
        head: str,
        path: str = "",
        branch: str = "main",
        head_repository: str | None = None,
        status: Literal["queued", "in_progress", "completed"] = "in_progress",
        conclusion: str | None = None,
        actor: str = "",
    ) -> int:
        """A run of a workflow (`path`: of its file) for the commit `head`; its number. `head_repository` is where
        the commit lies, if in a fork. Events `workflow_run` are written: `requested`, and `completed` with a
        conclusion."""
        with self.store.changing():
            record = self.store.repository(repository)
            source = self.store.repository(head_repository) if head_repository else record
            file = path or f".github/workflows/{workflow}.yml"
            same = [one for one in record["runs"].values() if one["path"] == file]
            number = self.store.number()
            record["runs"][str(number)] = {
                "id": number,
                "name": workflow,
                "path": file,
                "workflow_id": same[0]["workflow_id"] if same else self.store.number(),
                "run_number": len(same) + 1,
                "run_attempt": 1,
                "event": event,
                "head_sha": head,
                "head_branch": branch,
                "head_repository": source["id"],
                "status": status,
                "conclusion": None,
                "suite": self.store.number(),
                "actor": self.store.account(actor or ACTIONS_BOT)["login"],
                "created_at": self.store.now(),
                "updated_at": self.store.now(),
            }
            self._run_happened(record, number, "requested")
            if conclusion is not None:
                self.finish_workflow_run(repository, number, conclusion)
            return number

    def start_workflow_run(self, repository: str, run: int) -> None:
        """A queued run is under way."""
        with self.store.changing():
            record = self.store.repository(repository)
            record["runs"][str(run)] |= {"status": "in_progress", "updated_at": self.store.now()}
            self._run_happened(record, run, "in_progress")

    def finish_workflow_run(self, repository: str, run: int, conclusion: str) -> None:
        """A run has ended: `success`, `failure`, `cancelled`, ..."""
        with self.store.changing():
            record = self.store.repository(repository)
            record["runs"][str(run)] |= {
                "status": "completed",
                "conclusion": conclusion,
                "updated_at": self.store.now(),
            }
            self._run_happened(record, run, "completed")

    def rerun_workflow(self, repository: str, run: int) -> int:
        """Begin the run anew; the number of the attempt."""
        with self.store.changing():
            record = self.store.repository(repository)
            found = record["runs"][str(run)]
            found |= {"run_attempt": found["run_attempt"] + 1, "status": "in_progress", "conclusion": None}
            self._run_happened(record, run, "requested")
            return int(found["run_attempt"])

    def _run_happened(self, repository: Record, number: int, action: str) -> None:
        run = repository["runs"][str(number)]
        payload = {
            "workflow_run": routes_actions.run_shape(self.store, repository, run),
            "workflow": {
                "id": run["workflow_id"],
                "name": run["name"],
                "path": run["path"],
                "state": "active",
            },
            "repository": shapes.repository(self.store, repository),
            "sender": shapes.user(self.store, self.store.account(run["actor"])),
        }
        self.store.happened("workflow_run", action, repository, payload)

    def workflow_runs(self, repository: str) -> list[Record]:
        """All runs, oldest first, as the REST API shows them."""
        with self.store.lock:
            record = self.store.repository(repository)
            return [routes_actions.run_shape(self.store, record, one) for one in record["runs"].values()]

    def upload_artifact(self, repository: str, run: int, name: str, data: bytes) -> int:
        """Store the zip of an artifact of the run; its number."""
        with self.store.changing():
            record = self.store.repository(repository)
            if str(run) not in record["runs"]:
                raise LookupError(f"no run {run}")
            number = self.store.number()
            Path(routes_actions.artifact_file(self.store, number)).write_bytes(data)
            record["artifacts"][str(number)] = {
                "id": number,
                "run": run,
                "name": name,
                "size": len(data),
                "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
                "expired": False,
                "created_at": self.store.now(),
                "expires_at": self.store.later(days=KEPT),
            }
            return number

    def expire_artifact(self, repository: str, artifact: int) -> None:
        """Its days are over: the list still has it, its zip is gone."""
        with self.store.changing():
            self.store.repository(repository)["artifacts"][str(artifact)]["expired"] = True
            Path(routes_actions.artifact_file(self.store, artifact)).unlink(missing_ok=True)
