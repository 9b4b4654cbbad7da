"""A real OpenID provider as its own process: Django OAuth Toolkit, with people, clients, log-in and consent pages.

    python -m tests.oidc.idp PORT CALLBACK SIGNING_KEY.pem

Prints a line when it answers. It forgets everything when it ends.
"""

import sys
from pathlib import Path
from typing import Any, cast
from wsgiref.simple_server import WSGIRequestHandler, make_server

import django
from django.conf import settings
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application

from tests.oidc.idp.people import CLIENT_SECRET, PASSWORD, UNVERIFIED, VERIFIED

LOGIN = "<form method='post'>{% csrf_token %}{{ form.as_p }}<button>Log in</button></form>"


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Nobody reads it."""


def configure(issuer: str, key: str) -> None:
    loaders = [
        ("django.template.loaders.locmem.Loader", {"registration/login.html": LOGIN}),
        "django.template.loaders.app_directories.Loader",
    ]
    settings.configure(
        SECRET_KEY="of-a-provider-in-a-test",
        ALLOWED_HOSTS=["127.0.0.1"],
        ROOT_URLCONF="tests.oidc.idp.urls",
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "OPTIONS": {"loaders": loaders, "context_processors": ["django.template.context_processors.request"]},
            }
        ],
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        LOGIN_URL="/login/",
        USE_TZ=True,
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": issuer,
            "OIDC_RSA_PRIVATE_KEY": key,
            "PKCE_REQUIRED": True,
            "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
            "SCOPES": {"openid": "Who you are", "email": "Your address", "profile": "Your name"},
            "OAUTH2_VALIDATOR_CLASS": "tests.oidc.idp.claims.SchoolValidator",
        },
    )


def people_and_clients(callback: str) -> None:
    from django.contrib.auth.models import User
    from oauth2_provider.models import Application

    for email in (*VERIFIED, *UNVERIFIED):
        name = email.partition("@")[0]
        User.objects.create_user(name, email, PASSWORD, first_name=name.title(), last_name="Provider")
    common = {"authorization_grant_type": "authorization-code", "algorithm": "RS256"}
    Application.objects.create(
        name="The school",
        client_id="lms",
        client_secret=CLIENT_SECRET,
        client_type="confidential",
        redirect_uris=callback.format(provider="school"),
        **common,
    )
    Application.objects.create(
        name="The school, without a secret",
        client_id="lms-public",
        client_type="public",
        redirect_uris=callback.format(provider="public"),
        **common,
    )


def main(port: int, callback: str, key: str) -> None:
    configure(f"http://127.0.0.1:{port}/o", key)
    django.setup()
    call_command("migrate", verbosity=0)
    people_and_clients(callback)
    with make_server("127.0.0.1", port, cast("Any", get_wsgi_application()), handler_class=Quiet) as server:
        print("ready", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text(encoding="utf-8"))
