"""Who is known at the provider, and what it vouches for."""

PASSWORD = "a password at the provider"
CLIENT_SECRET = "the-schools-client-secret +%:&"
VERIFIED = ("sam@school.example", "ivy@school.example", "new@school.example")
UNVERIFIED = ("stella@school.example",)
