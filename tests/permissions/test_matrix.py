"""Every route as everybody. A route that is in no table fails, so that nobody forgets to say who may use it."""

from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar
from litestar.routes import HTTPRoute
from pymongo.asynchronous.database import AsyncDatabase

from lms.accounts.people import set_active
from lms.accounts.service import Accounts
from lms.api_keys.documents import Scope
from lms.app import create_app
from lms.clock import utc_now
from lms.settings import Settings
from lms.tokens import KeyRing
from tests.api_keys.keys import a_key
from tests.api_keys.keys import routes_of as handlers_of
from tests.permissions.table import BODIES, CALLERS, OWN_CREDENTIALS, TABLE, expected
from tests.permissions.world import School, a_school

Database = AsyncDatabase[dict[str, Any]]


def routes_of(app: Litestar) -> set[str]:
    routes = [route for route in app.routes if isinstance(route, HTTPRoute)]
    return {f"{method} {route.path_format}" for route in routes for method in route.methods if method != "OPTIONS"}


def test_every_route_says_who_may_use_it(settings: Settings) -> None:
    assert TABLE.keys() | OWN_CREDENTIALS.keys() == routes_of(create_app(settings))
    assert BODIES.keys() <= TABLE.keys()
    assert TABLE.keys().isdisjoint(OWN_CREDENTIALS)


@pytest.mark.parametrize("key", TABLE)
async def test_as_everybody(app: Litestar, accounts: Accounts, database: Database, key: str) -> None:
    told: dict[str, int] = {}
    school = await a_school(app, accounts, database)
    for name in CALLERS:
        if told and not key.startswith("GET "):
            school = await a_school(app, accounts, database)
        token = None if name == "visitor" else await school.token(name)
        told[name] = (await school.ask(key, BODIES.get(key), token)).status_code
    assert told == expected(key)


async def deactivated(school: School, settings: Settings) -> str:
    token = await school.token("ada")
    await set_active(school.people["ada"].id, active=False)
    return token


async def signed_out(school: School, settings: Settings) -> str:
    token = await school.token("ada")
    await school.ask("POST /api/v1/auth/logout", None, token)
    return token


async def expired(school: School, settings: Settings) -> str:
    return await issued(school, settings, utc_now() - timedelta(seconds=settings.access_token_seconds + 1))


async def not_yet_valid(school: School, settings: Settings) -> str:
    return await issued(school, settings, utc_now() + timedelta(hours=1))


async def for_another_audience(school: School, settings: Settings) -> str:
    return await issued(school, settings.model_copy(update={"jwt_audience": "another-api"}), utc_now())


async def by_another_issuer(school: School, settings: Settings) -> str:
    return await issued(school, settings.model_copy(update={"jwt_issuer": "another"}), utc_now())


async def of_another_session(school: School, settings: Settings) -> str:
    """Signed by us, for an administrator, and of a session that is a student's."""
    sam = await school.token("sam")
    claims = school.accounts.keys.verify(sam, utc_now())
    ada = school.people["ada"]
    return school.accounts.keys.issue(ada.id, claims.session_id, ada.role, ada.auth_epoch, utc_now())


async def garbage(school: School, settings: Settings) -> str:
    return "not.a.token"


async def issued(school: School, settings: Settings, now: Any) -> str:
    """Of a session of Ada's that stands."""
    stands = school.accounts.keys.verify(await school.token("ada"), utc_now())
    ada = school.people["ada"]
    return KeyRing(settings).issue(ada.id, stands.session_id, ada.role, ada.auth_epoch, now)


WORTHLESS = [
    signed_out,
    expired,
    not_yet_valid,
    for_another_audience,
    by_another_issuer,
    of_another_session,
    garbage,
    deactivated,
]


@pytest.mark.parametrize("key", TABLE)
async def test_with_what_is_worth_nothing(
    app: Litestar, accounts: Accounts, database: Database, settings: Settings, key: str
) -> None:
    """As for a visitor, and where one would be refused told to sign in. Sign-in itself looks at no token."""
    as_a_visitor = expected(key)["visitor"]
    school = await a_school(app, accounts, database)
    for make in WORTHLESS:
        answer = await school.ask(key, BODIES.get(key), await make(school, settings))
        assert answer.status_code == as_a_visitor, (make.__name__, answer.text)
        if as_a_visitor == 401:
            assert 'error="invalid_token"' in answer.headers["www-authenticate"], make.__name__


@pytest.mark.parametrize("key", TABLE)
async def test_with_an_api_key_that_has_not_the_scope(
    app: Litestar, accounts: Accounts, database: Database, key: str
) -> None:
    """Of an administrator, so that only the scope is missing. A route without one does not look at the key."""
    (handler,) = [handler for method, path, handler in handlers_of(app) if f"{method} {path}" == key]
    scope = handler.opt.get("scope")
    looks_who_asks = {"user", "viewer"} & handler.parsed_fn_signature.parameters.keys()
    school = await a_school(app, accounts, database)
    _, text = await a_key(school.people["ada"], *(one for one in Scope if one is not scope))
    answer = await school.ask(key, BODIES.get(key), text)
    if scope is not None:
        assert (answer.status_code, answer.json()["code"]) == (403, "scope_missing")
    elif looks_who_asks or expected(key)["visitor"] == 401:
        assert (answer.status_code, answer.json()["code"]) == (403, "api_key_not_allowed")
    else:
        assert answer.status_code == expected(key)["visitor"], answer.text
