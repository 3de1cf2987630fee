"""URLs, passwords that are never shown, schemas of their own, what is refused."""

from __future__ import annotations

import logging
from urllib.parse import quote

import pytest
from exchange_fakes import exchange
from trajectory_fakes import episode

from postgres_server import PASSWORD, Server
from potstill.errors import ConfigError, DiskFull, SchemaTooNew, StoreError
from potstill.trajectories.migrations import MIGRATIONS
from potstill.trajectories.opening import open_store, read_store, shown
from potstill.trajectories.postgres import dialect
from potstill.trajectories.postgres.location import locate

pytestmark = pytest.mark.postgres


def secret_url(server: Server, user: str = "potstill", password: str = PASSWORD, database: str = "postgres") -> str:
    schema = "of_a_password"
    return f"postgresql://{user}:{quote(password)}@127.0.0.1:{server.port}/{database}?schema={schema}"


def test_a_password_opens_the_store_and_is_shown_nowhere(postgres, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with open_store(secret_url(postgres)) as store:
        assert store.record([exchange("e", 0)]) == [1]
        assert store.path == f"postgresql://potstill@127.0.0.1:{postgres.port}/postgres?schema=of_a_password"
        said = [str(store.path), repr(store), repr(vars(store)), repr(store._location)]
        with pytest.raises(StoreError) as unknown:
            store.get("nobody")
        said += [str(unknown.value)]
    for wrong in (
        secret_url(postgres, user="nobody"),
        secret_url(postgres, database="no_such_one"),
        secret_url(postgres).replace(f":{postgres.port}", ":1"),
        secret_url(postgres).replace("?", "?sslmode=nonsense&"),
        secret_url(postgres).replace("schema=of_a_password", "schema=Bad-Name"),
        secret_url(postgres).replace("?", "?nonsense=1&"),
    ):
        with pytest.raises((StoreError, ConfigError)) as refused:
            open_store(wrong)
        assert "127.0.0.1" in str(refused.value)
        said += [str(refused.value), repr(refused.value.__cause__)]
    said += [caplog.text, *capfd.readouterr(), shown(secret_url(postgres)), shown(wrong)]
    for text in said:
        assert PASSWORD not in text
        assert quote(PASSWORD) not in text
        assert "b0il" not in text


def test_a_wrong_password_is_refused_with_the_host(postgres):
    with pytest.raises(StoreError, match=r"postgresql://potstill@127\.0\.0\.1:\d+/postgres.*password") as refused:
        open_store(secret_url(postgres, password="s3cret-typo"))
    assert "s3cret" not in str(refused.value)


def test_the_password_may_come_from_the_environment(postgres, monkeypatch):
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with open_store(shown(secret_url(postgres))) as store:
        assert store.last_seq() >= 0


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql:///db", "postgresql:///db"),
        ("postgres://u:p@h/db", "postgresql://u@h/db"),
        ("postgresql://u@h:5433/db?schema=a&sslmode=require", "postgresql://u@h:5433/db?schema=a"),
        ("postgresql://u:p%40x@[::1]/db?schema=potstill", "postgresql://u@[::1]/db"),
        ("postgresql:///db?host=/run/pg&user=me&password=p", "postgresql:///db?host=/run/pg&user=me"),
        ("postgresql://a,b:5433/db", "postgresql://a,b:5433/db"),
    ],
)
def test_what_is_shown_of_a_url(url, said):
    assert locate(url).shown == said
    assert locate(said).shown == said


def test_stores_of_two_schemas_are_apart(postgres, url):
    with open_store(url) as one, open_store(f"{url}_2") as two:
        one.append(episode("a"))
        one.record([exchange("e", 0)])
        assert two.ids() == []
        assert two.last_seq() == 0
        assert two.lease("x", "me", 60)
        assert one.lease("x", "other", 60)


def test_opening_again_changes_nothing_and_reading_makes_nothing(postgres, url):
    with pytest.raises(StoreError, match="No store at postgresql://"):
        read_store(url)
    with pytest.raises(StoreError, match="No store at postgresql://"):
        open_store(url, create=False)
    schema = url.rpartition("=")[2]
    assert postgres.sql(f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []
    open_store(url).close()
    with open_store(url, create=False) as store:
        store.append(episode("a"))
    assert postgres.sql(f"SELECT count(*) FROM {schema}.migrations") == [(len(MIGRATIONS),)]
    with read_store(url) as store:
        assert store.get("a") == episode("a")
        with pytest.raises(StoreError, match="opened for reading"):
            store.append(episode("b"))
    with pytest.raises(ConfigError, match="max_bytes limits a file"):
        open_store(url, max_bytes=10)


def test_another_program_s_tables_and_a_newer_schema_are_left_alone(postgres, url):
    schema = url.rpartition("=")[2]
    postgres.sql(f"CREATE SCHEMA {schema}")
    postgres.sql(f"CREATE TABLE {schema}.x(y int)")
    with pytest.raises(StoreError, match="tables of another program"):
        open_store(url)
    assert postgres.sql(f"SELECT tablename FROM pg_tables WHERE schemaname = '{schema}'") == [("x",)]
    postgres.sql(f"DROP TABLE {schema}.x")
    open_store(url).close()
    postgres.sql(f"INSERT INTO {schema}.migrations VALUES ({len(MIGRATIONS) + 1})")
    for opens in (open_store, read_store):
        with pytest.raises(SchemaTooNew, match="newer potstill"):
            opens(url)


def test_an_older_schema_is_brought_to_the_newest_and_not_by_who_reads(postgres, url, monkeypatch):
    from potstill.trajectories.postgres import schema as schemas
    from potstill.trajectories.postgres import store as stores

    for module in (schemas, stores):
        monkeypatch.setattr(module, "MIGRATIONS", MIGRATIONS[:2])
    with open_store(url) as store:
        store.append(episode("a"))
    monkeypatch.undo()
    with pytest.raises(StoreError, match="written by an older potstill"):
        read_store(url)
    with open_store(url) as store:
        assert store.get("a") == episode("a")
        assert store.record([exchange("e", 0)]) == [1]


def test_a_user_without_rights_is_told_what_is_missing(postgres, url):
    open_store(url).close()
    with pytest.raises(StoreError, match=r"refuses this user: .*CREATE SCHEMA"):
        open_store(secret_url(postgres).replace("of_a_password", url.rpartition("=")[2]))


def test_durability_is_asked_for_where_a_role_has_turned_it_off(postgres, url):
    postgres.sql("CREATE ROLE hasty LOGIN SUPERUSER")
    postgres.sql("ALTER ROLE hasty SET synchronous_commit = off")
    with open_store(url.replace("postgres@", "hasty@")) as store:
        asked = "SELECT current_setting('synchronous_commit'), current_setting('lock_timeout')"
        assert store._write(lambda connection: connection.execute(asked).fetchone()) == ("on", "1min")


def test_a_full_disk_and_a_value_that_is_too_long_say_so(url):
    from psycopg import errors

    with open_store(url) as store:

        def full(connection: object) -> None:
            raise errors.DiskFull("could not extend file")

        with pytest.raises(DiskFull, match="No space left for the store postgresql://"):
            store._write(full)
        import random

        long = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz0123456789", k=20_000))
        with pytest.raises(StoreError, match=r"failed: .*index"):
            store.record([exchange(long, 0)])
        assert store.record([exchange("e", 0)]) == [1]


def test_pruning_reports_the_server_s_bytes(url):
    with open_store(url) as store:
        for i in range(40):
            store.append(episode(f"e{i}", steps=20, words=f"words {i}", started_at=86_400.0 * (1 + i)))
        report = store.prune(86_400.0 * 41)
        assert report.removed == 40
        assert 0 < report.bytes_after < report.bytes_before
        assert store.check() == []


# --- the words of two engines ---------------------------------------------------------------------------------------


def test_statements_are_put_into_postgres_s_words():
    made = dialect.statement("SELECT '?%:a' FROM t WHERE (?1 IS NULL OR a = ?1) AND b = ?2 LIMIT ?3")
    assert made.sql == "SELECT '?%%:a' FROM t WHERE (%s::text IS NULL OR a = %s) AND b = %s LIMIT nullif(%s, -1)"
    assert made.values(("x", "y", 3)) == ("x", "x", "y", 3)
    named = dialect.statement("INSERT INTO t(a, b) VALUES (:a, :b)")
    assert (named.sql, named.values({"b": 2, "a": 1})) == ("INSERT INTO t(a, b) VALUES (%s, %s)", (1, 2))
    assert dialect.statement("SELECT max(seq), max(a.b, c) % ?").sql == "SELECT max(seq), greatest(a.b, c) %% %s"


@pytest.mark.parametrize("text", ["", "plain", "\x00", "\x1a0", "\x1a\x00\x1a1", "a\x1a1\x000"])
def test_any_text_comes_back(text):
    assert dialect.unescaped(dialect.escaped(text)) == text
    assert "\x00" not in dialect.escaped(text)
