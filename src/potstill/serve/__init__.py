"""The gateway: clients change their base URL, and every call is recorded, routed and priced."""
