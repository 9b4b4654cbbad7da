"""The application on one page: routes, cross-cutting concerns, what starts and stops with it."""

import gc
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta

from litestar import Litestar, Router
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.di import Provide

from lms.accounts.controller import AuthController, get_public_keys
from lms.accounts.limits import MailLimit
from lms.accounts.service import Accounts
from lms.api_keys.controller import ApiKeyController
from lms.api_keys.scopes import KeyScopes
from lms.api_keys.verdicts import KeyVerdicts
from lms.audit.controller import AuditController
from lms.auth import Authentication, SessionVerdicts, provide_user, provide_viewer
from lms.certificates.controller import CertificateController, verify_certificate
from lms.courses.controller import CourseController
from lms.database import connect
from lms.enrollments.controller import EnrollmentController
from lms.erasure.controller import ErasureController
from lms.export.controller import ExportController
from lms.lessons.controller import LessonController
from lms.logs import RequestLog, configure_logging
from lms.metrics import RequestMetrics, mark_started
from lms.migrations import is_migrated
from lms.oidc.controller import IdentityController, OidcController
from lms.oidc.provider import Providers
from lms.outline.controller import OutlineController
from lms.passwords import Passwords
from lms.profile.controller import ProfileController
from lms.recovery.controller import RecoveryController
from lms.redis_client import Accelerator
from lms.schemas import Moment
from lms.second_factor.controller import SecondFactorController
from lms.settings import Settings, load_settings
from lms.tokens import KeyRing
from lms.users.controller import UserController, accept_invitation
from lms.web.docs import PRECOMPRESSED, docs_router
from lms.web.etags import ConditionalReads
from lms.web.health import Draining, Health, begin_on_sigterm, health_router
from lms.web.idempotency import provide_once
from lms.web.kept import KeptAnswers
from lms.web.limits import RateLimits
from lms.web.lists import provide_paging
from lms.web.metrics_route import metrics_router
from lms.web.openapi import openapi_config
from lms.web.problems import render_problem
from lms.web.requests import Deadline, RequestId, check_request
from lms.web.security_headers import SecurityHeaders

API = "/api/v1"
CORS_ALLOWED = [
    "Authorization",
    "Content-Type",
    "If-Match",
    "If-None-Match",
    "Idempotency-Key",
    "Last-Event-ID",
    "X-LMS-CSRF",
]
CORS_EXPOSED = [
    "ETag",
    "Link",
    "Location",
    "Retry-After",
    "RateLimit",
    "RateLimit-Policy",
    "WWW-Authenticate",
    "X-Request-Id",
    "Content-Disposition",
]


def create_app(settings: Settings | None = None) -> Litestar:
    settings = settings or load_settings()
    accelerator = Accelerator(settings.redis_url, settings.redis_prefix)
    verdicts, api_keys = SessionVerdicts(), KeyVerdicts(settings.mfa_required_for)
    keys = KeyRing(settings)
    passwords = Passwords(settings)
    accounts = Accounts(settings, passwords, keys, verdicts, MailLimit(settings, accelerator))
    providers = Providers(settings.oidc_providers)
    draining = Draining()

    async def provide_accounts() -> Accounts:
        return accounts

    async def provide_api_keys() -> KeyVerdicts:
        return api_keys

    async def provide_providers() -> Providers:
        return providers

    async def provide_settings() -> Settings:
        return settings

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncGenerator[None]:
        configure_logging(settings)
        mark_started("api")
        async with connect(settings):
            begin_on_sigterm(draining)
            # What is there now stays; looking through all of it again and again costs a tenth of a second each time.
            gc.collect()
            gc.freeze()
            yield
            gc.unfreeze()
            await api_keys.close()
        await providers.close()
        await accelerator.close()
        passwords.close()

    app = Litestar(
        [
            Router(
                API,
                route_handlers=[
                    AuthController,
                    RecoveryController,
                    ApiKeyController,
                    SecondFactorController,
                    OidcController,
                    IdentityController,
                    ProfileController,
                    ExportController,
                    ErasureController,
                    CourseController,
                    OutlineController,
                    LessonController,
                    EnrollmentController,
                    CertificateController,
                    AuditController,
                    UserController,
                    accept_invitation,
                ],
            ),
            verify_certificate,
            get_public_keys,
            health_router(Health(accelerator, is_migrated, draining)),
            metrics_router(settings),
            docs_router,
        ],
        dependencies={
            "user": Provide(provide_user),
            "viewer": Provide(provide_viewer),
            "paging": Provide(provide_paging),
            "once": Provide(provide_once),
            "accounts": Provide(provide_accounts),
            "api_keys": Provide(provide_api_keys),
            "providers": Provide(provide_providers),
            "settings": Provide(provide_settings),
        },
        middleware=[
            Deadline(settings.request_timeout_seconds),
            Authentication(keys, verdicts, api_keys),
            RateLimits(settings, accelerator),
            KeyScopes(),
            ConditionalReads(),
        ],
        before_request=check_request,
        exception_handlers={Exception: render_problem},
        type_encoders={Moment: str},
        cors_config=CORSConfig(
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "PUT", "PATCH", "DELETE"],
            allow_headers=CORS_ALLOWED,
            expose_headers=CORS_EXPOSED,
            allow_credentials=True,
        ),
        compression_config=CompressionConfig(
            backend="gzip", minimum_size=700, gzip_compress_level=5, exclude_opt_key=PRECOMPRESSED
        ),
        request_max_body_size=settings.max_body_bytes,
        lifespan=[lifespan],
        logging_config=None,
        openapi_config=openapi_config(settings.school_name),
    )
    # Outside of the router, so that unknown routes have all of this too.
    app.asgi_handler = RequestId(RequestLog(RequestMetrics(SecurityHeaders(app.asgi_handler, settings))))
    app.state.accounts, app.state.providers = accounts, providers
    app.state.proof_life = timedelta(minutes=settings.proof_minutes)
    app.state.catalogue = KeptAnswers(settings.catalogue_seconds)
    return app
