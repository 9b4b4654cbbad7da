from pathlib import Path

import pytest

from lms.accounts.documents import User
from tests.loading.trees import School


@pytest.fixture
def school(tmp_path: Path, ivy: User) -> School:
    """Ivy's school, which loads its courses from a folder."""
    return School(tmp_path / "school", ivy.email)
