"""Sources (files, SQL, REST) into raw tables, bad rows set aside. Knows no desk: entities are handed in.

Writes ingestion.loads, ingestion.rejected_rows and the raw table of the entity that it is given.
"""
