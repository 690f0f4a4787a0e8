"""The built-in real sample: European Union infringement procedures, 2002 to 2020.

Where the files lie and at which moment their records end. ``eu_infringements/README.md`` says what they are,
and ``scripts/build_sample_data.py`` makes them from the published data set.
"""

from pathlib import Path
from typing import Final

SAMPLE_DIRECTORY: Final = Path(__file__).parent / "eu_infringements"
# Kept apart from an institution's own records, which live in the default tenant.
SAMPLE_TENANT: Final = "sample"
# The sample's clock: midnight in Asia/Riyadh of the day of its newest records.
SAMPLE_AS_OF: Final = "2020-04-29T00:00:00+03:00"

# The same seen by the member states, each a tenant of the litigation desk; made by build_litigation_sample.py.
LITIGATION_DIRECTORY: Final = Path(__file__).parent / "eu_litigation"
# The end of that day, by the clock of each of them.
LITIGATION_CLOCK: Final = "2020-04-29T23:59:00"
