"""Extensions and libraries that a restore makes again by itself: PostgreSQL's own, and others that
are widely used.

An extension's script runs as the administrator, and what it makes may be open to everybody. So one
that is named by a backup alone is not made.
"""

# fmt: off
KNOWN = frozenset((
    "adminpack", "amcheck", "auth_delay", "auto_explain", "autoinc", "basic_archive", "basebackup_to_shell", "bloom",
    "bool_plperl", "btree_gin", "btree_gist", "citext", "cube", "dblink", "dict_int", "dict_xsyn", "earthdistance",
    "file_fdw", "fuzzystrmatch", "hstore", "hstore_plperl", "hstore_plpython3u", "insert_username", "intagg",
    "intarray", "isn", "jsonb_plperl", "jsonb_plpython3u", "lo", "ltree", "ltree_plpython3u", "moddatetime",
    "old_snapshot", "pageinspect", "passwordcheck", "pg_buffercache", "pg_freespacemap", "pg_logicalinspect",
    "pg_overexplain", "pg_prewarm", "pg_stat_statements", "pg_surgery", "pg_trgm", "pg_visibility", "pg_walinspect",
    "pgcrypto", "pgrowlocks", "pgstattuple", "plperl", "plpgsql", "plpython3u", "pltcl", "postgres_fdw", "refint",
    "seg", "sepgsql", "spi", "sslinfo", "tablefunc", "tcn", "test_decoding", "tsm_system_rows", "tsm_system_time",
    "unaccent", "uuid-ossp", "xml2", "address_standardizer", "address_standardizer_data_us", "age", "citus",
    "citus_columnar", "h3", "h3_postgis", "hll", "http", "hypopg", "ip4r", "mysql_fdw", "orafce", "pg_cron",
    "pg_hint_plan", "pg_ivm", "pg_net", "pg_partman", "pg_partman_bgw", "pg_qualstats", "pg_repack", "pg_search",
    "pg_similarity", "pg_squeeze", "pg_stat_kcache", "pg_wait_sampling", "pgaudit", "pgjwt", "pglogical", "pgmq",
    "pgroonga", "pgrouting", "pgsodium", "pgtap", "pgvector", "plpgsql_check", "plv8", "postgis", "postgis_raster",
    "postgis_sfcgal", "postgis_tiger_geocoder", "postgis_topology", "prefix", "rum", "semver", "tds_fdw",
    "temporal_tables", "timescaledb", "timescaledb_toolkit", "vector", "vectorscale", "vchord", "wal2json",
))
# fmt: on
