"""The school's claims, in the toolkit's own validator."""

from typing import Any

from oauth2_provider.oauth2_validators import OAuth2Validator

from tests.oidc.idp.people import VERIFIED


class SchoolValidator(OAuth2Validator):
    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        user = request.user
        return {"name": user.get_full_name(), "email": user.email, "email_verified": user.email in VERIFIED}
