"""People who can really sign in, with the password that everybody here has."""

from dataclasses import dataclass
from typing import Any

import httpx

from lms.accounts.documents import User
from lms.accounts.service import Accounts
from tests.build import a_user

PASSWORD = "correct horse battery"


async def a_person(accounts: Accounts, name: str, **fields: Any) -> User:
    return await a_user(name, **fields, password_hash=await accounts.passwords.hash(PASSWORD)).insert()


@dataclass
class Signed:
    """What a sign-in or a refresh gave."""

    response: httpx.Response

    @property
    def body(self) -> dict[str, Any]:
        assert self.response.status_code == 200, self.response.text
        return self.response.json()

    @property
    def refresh_token(self) -> str:
        return self.body["refresh_token"]

    @property
    def family(self) -> str:
        return self.refresh_token.split(".", maxsplit=1)[0]

    @property
    def header(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.body['access_token']}"}


async def sign_in(client: httpx.AsyncClient, user: User, password: str = PASSWORD, **headers: str) -> Signed:
    body = {"email": user.email, "password": password}
    return Signed(await client.post("/auth/login", json=body, headers=headers))


async def refresh(client: httpx.AsyncClient, token: str) -> Signed:
    return Signed(await client.post("/auth/refresh", json={"refresh_token": token}))


async def me(client: httpx.AsyncClient, signed: Signed) -> int:
    return (await client.get("/users/me", headers=signed.header)).status_code


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["code"]
