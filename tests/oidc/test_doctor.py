from lms.doctor import providers_of
from lms.settings import Settings
from tests.oidc.conftest import Idp
from tests.oidc.rogue import Rogue


async def test_the_doctor_asks_every_provider(school_settings: Settings, idp: Idp, rogue: Rogue) -> None:
    rogue.reset()
    rogue.metadata = {"issuer": idp.issuer}
    found = await providers_of(school_settings)
    assert [(one.part, one.state, one.message) for one in found] == [
        ("sign-in", "ok", "school answers"),
        ("sign-in", "ok", "public answers"),
        ("sign-in", "fail", "rogue: its metadata name another issuer"),
        ("sign-in", "fail", "strong: its metadata name another issuer"),
    ]
    assert "LMS_OIDC_PROVIDERS" in found[2].remedy


async def test_without_providers_there_is_nothing_to_say(settings: Settings) -> None:
    assert await providers_of(settings) == []
