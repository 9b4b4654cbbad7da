"""The reads of identities."""

from lms.auth import Caller
from lms.oidc.documents import Identity
from lms.oidc.schemas import IdentityRead
from lms.setting_types import OidcProvider

MOST = 100
"""One for each issuer of the settings, now and before."""


async def list_identities(caller: Caller, providers: list[OidcProvider]) -> list[IdentityRead]:
    titles = {one.name: one.title for one in providers}
    rows = await Identity.get_pymongo_collection().find({"user_id": caller.id}).sort("_id", 1).to_list(MOST)
    return [IdentityRead.from_raw(row, title=titles.get(row["provider"], row["provider"])) for row in rows]
