"""Who answers for an asset: shown in the Dagster UI and used to route alerts."""

from typing import Final

ANALYTICS: Final = "team:relationship-analytics"
PLATFORM: Final = "team:data-platform"
