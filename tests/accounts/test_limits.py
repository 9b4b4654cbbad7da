from typing import Any
from uuid import uuid4

import httpx
from litestar import Litestar
from litestar.routes import HTTPRoute

from lms.app import create_app
from lms.web.limits import class_of
from tests.accounts.people import refusal
from tests.conftest import open_client, running, settings_for

GUESSES_NOTHING = {
    "/api/v1/auth/refresh",
    "/api/v1/auth/logout",
    "/api/v1/auth/logout-all",
    "/api/v1/auth/api-keys",
}
"""What these take is longer than anybody guesses, or was checked at the door."""
AT_THE_DOOR = {"auth", "sign_in"}


def posts_below_auth(app: Litestar) -> dict[str, Any]:
    routes = [route for route in app.routes if isinstance(route, HTTPRoute) and "/auth/" in route.path]
    return {route.path: route.route_handler_map["POST"][0] for route in routes if "POST" in route.route_handler_map}


async def test_every_post_that_could_be_guessed_at_is_limited_at_the_door(app: Litestar) -> None:
    classes = {
        path: class_of({"route_handler": handler, "method": "POST", "path": path})  # pyright: ignore[reportArgumentType]
        for path, handler in posts_below_auth(app).items()
    }
    assert len(classes) > 10
    assert {path for path, name in classes.items() if name not in AT_THE_DOOR} == GUESSES_NOTHING
    assert [path for path, name in classes.items() if name == "sign_in"] == ["/api/v1/auth/login"]


async def test_one_address_tries_only_so_often(mongodb_url: str, redis_url: str, client: httpx.AsyncClient) -> None:
    _ = client
    settings = settings_for(mongodb_url, redis_url, LMS_RATE_AUTH="3/3600", LMS_REDIS_PREFIX=f"test-{uuid4().hex}")
    async with running(create_app(settings)) as app, open_client(app) as visitor:
        answers = [
            await visitor.post("/auth/forgot-password", json={"email": "sam@school.example"}),
            await visitor.post("/auth/reset-password", json={"token": "x", "password": "a fresh new start"}),
            await visitor.post("/auth/verify-email/confirm", json={"token": "x"}),
            await visitor.post("/auth/change-email/confirm", json={"token": "x"}),
        ]
    assert [answer.status_code for answer in answers] == [202, 422, 422, 429]
    assert refusal(answers[3]) == (429, "rate_limited")
    assert int(answers[3].headers["retry-after"]) > 0
