"""People, teams and Apps of the stand-in, and their tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testbed.github import access
from testbed.github.store import Store


class People:
    """Part of `GithubServer`."""

    store: Store

    def user(
        self,
        login: str,
        roles: Mapping[str, str] | None = None,
        *,
        name: str | None = None,
        permissions: Mapping[str, str] | None = None,
    ) -> str:
        """A person's token. `roles`: by repository `read`, `triage`, `write`, `maintain` or `admin`; the owner of a
        repository is its admin. `permissions` narrow the token (a fine-grained one)."""
        with self.store.changing():
            account = self.store.account(login)
            if name is not None:
                account["name"] = name
            for repository, role in (roles or {}).items():
                self.grant(repository, login, role)
            return access.new_token(self.store, "user", account["id"], permissions=permissions)

    def account_id(self, login: str) -> int:
        """The number of an account."""
        with self.store.changing():
            number: int = self.store.account(login)["id"]
            return number

    def grant(self, repository: str, login: str, role: str) -> None:
        """Give a person, or a team as `@org/team`, a role in the repository; `` takes it away."""
        if role and role not in access.ROLES:
            raise ValueError(f"a role is one of {', '.join(access.ROLES)}")
        with self.store.changing():
            if not login.startswith("@"):
                self.store.account(login)
            self.store.repository(repository)["roles"][login.lower()] = role

    def team(self, name: str, members: Sequence[str]) -> None:
        """A team `org/team`."""
        with self.store.changing():
            number = self.store.state["teams"].get(name.lower(), {}).get("id") or self.store.number()
            for login in members:
                self.store.account(login)
            logins = [login.lower() for login in members]
            self.store.state["teams"][name.lower()] = {"id": number, "members": logins}

    def app(
        self,
        slug: str = "edgetrain",
        *,
        permissions: Mapping[str, str] | None = None,
        repositories: Sequence[str] | None = (),
        owner: str = "hosp",
    ) -> tuple[int, str]:
        """A new App: its number and its private key (PEM). It is installed on the repositories (of one owner), or
        with None on all that `owner` has or will have. Without `permissions` it may write contents, pull requests
        and issues, and read checks, actions and metadata."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        default = {
            **dict.fromkeys(("contents", "pull_requests", "issues"), "write"),
            **dict.fromkeys(("checks", "actions", "metadata"), "read"),
        }
        with self.store.changing():
            number = self.store.number("app")
            self.store.account(f"{slug}[bot]", kind="Bot")
            self.store.state["apps"][str(number)] = {
                "id": number,
                "slug": slug,
                "client_id": f"Iv23li{number:014d}",
                "owner": self.store.account(owner, kind="Organization")["login"],
                "public_key": public.decode(),
                "permissions": dict(permissions if permissions is not None else default),
                "created_at": self.store.now(),
            }
            if repositories is None or repositories:
                self.install(number, repositories, owner=owner)
        return number, pem.decode()

    def install(self, app: int, repositories: Sequence[str] | None, *, owner: str = "hosp") -> int:
        """Install an App; the number of the installation."""
        with self.store.changing():
            found = None if repositories is None else [self.store.repository(name) for name in repositories]
            account = self.store.account(found[0]["owner"] if found else owner)
            number = self.store.number("installation")
            self.store.state["installations"][str(number)] = {
                "id": number,
                "app": app,
                "account": account["id"],
                "permissions": dict(self.store.state["apps"][str(app)]["permissions"]),
                "repositories": None if found is None else [one["id"] for one in found],
                "created_at": self.store.now(),
            }
            return number

    def installation_token(self, app: int, repository: str, permissions: Mapping[str, str] | None = None) -> str:
        """A token as the App itself would get it by its key."""
        with self.store.changing():
            record = self.store.repository(repository)
            found = access.installation_of(self.store, app, record)
            if found is None:
                raise LookupError(f"App {app} is not installed on {repository}")
            bot = self.store.account(f"{self.store.state['apps'][str(app)]['slug']}[bot]")
            return access.new_token(
                self.store,
                "installation",
                bot["id"],
                permissions=permissions if permissions is not None else found["permissions"],
                repositories=[record["id"]],
                app=app,
                installation=found["id"],
                expires=True,
            )

    def job_token(self, repository: str, permissions: Mapping[str, str]) -> str:
        """What a job has as GITHUB_TOKEN: of `github-actions[bot]`; what it does wakes no workflow."""
        with self.store.changing():
            return access.job_token(self.store, self.store.repository(repository), permissions)

    def expire_tokens(self) -> None:
        """All tokens that expire have expired."""
        with self.store.changing():
            for token in self.store.state["tokens"].values():
                token["expires_at"] = token["expires_at"] and "2000-01-01T00:00:00Z"
