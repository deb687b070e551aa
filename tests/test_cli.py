"""The command line as an operator and as a load tool use it, in processes of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import jwt
import pytest

from dispatch.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
SECRET = "a-secret-of-the-tests-0123456789abcdef"


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "dispatch", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
        timeout=120,
    )


def refusal(*arguments: str, **environment: str) -> str:
    """What a command says when the operator has to put something right: one sentence or two, no traceback."""
    done = command(*arguments, **environment)
    assert done.returncode == 2, done
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("dispatch: ")
    return done.stderr


def refusal_after_warnings(*arguments: str, **environment: str) -> str:
    """The same, with what the log says before."""
    done = command(*arguments, **environment)
    assert done.returncode == 2, done
    return done.stderr


@contextmanager
def serving(*arguments: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """A server of its own that is ready: (process, address)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatch", "serve", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"DISPATCH_DRAIN_S": "0"} | environment,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(r"ready: (http://127\.0\.0\.1:\d+) \((\d) workers?\)$", line):
                yield process, found[1]
                break
        else:
            pytest.fail(f"never ready: {process.communicate()[1]}")
    finally:
        process.kill()
        process.communicate()


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=20) as answer:
        return str(answer.read().decode())


def claims_of(token: str, secret: str = SECRET) -> dict[str, object]:
    found: dict[str, object] = jwt.decode(
        token, secret, algorithms=["HS256"], audience="dispatch", issuer="dispatch", options={"verify_exp": False}
    )
    return found


SIGNED = {"DISPATCH_JWT_SECRETS": f'["{SECRET}"]'}


def test_token_prints_one_token_and_nothing_else() -> None:
    user = str(uuid4())
    done = command("token", "--user", user, **SIGNED)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\S+\n", done.stdout)
    claims = claims_of(done.stdout.strip())
    assert (claims["sub"], claims["roles"]) == (user, ["customer"])
    assert isinstance(claims["exp"], int)
    assert isinstance(claims["iat"], int)
    assert claims["exp"] - claims["iat"] == Settings.model_fields["token_ttl_s"].default


def test_token_with_roles_and_a_life_in_the_past() -> None:
    done = command("token", "--user", str(uuid4()), "--role", "admin", "--role", "support", "--ttl", "-60", **SIGNED)
    assert claims_of(done.stdout.strip())["roles"] == ["admin", "support"]
    with pytest.raises(jwt.ExpiredSignatureError):
        jwt.decode(done.stdout.strip(), SECRET, algorithms=["HS256"], audience="dispatch")


@pytest.mark.parametrize("arguments", [["--user", "joe"], ["--user", str(UUID(int=1)), "--role", "provider"], []])
def test_token_refuses_what_makes_no_token(arguments: list[str]) -> None:
    done = command("token", *arguments, **SIGNED)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_a_misspelt_setting_is_named_with_the_right_one() -> None:
    text = refusal("serve", DISPATCH_WORKRES="3")
    assert "DISPATCH_WORKRES" in text
    assert "DISPATCH_WORKERS" in text


def test_a_setting_out_of_range_is_named_with_its_value() -> None:
    text = refusal("serve", "--port", "99999")
    assert "DISPATCH_PORT" in text
    assert "99999" in text


def test_a_market_override_that_makes_no_sense_is_told_before_anything_starts(tmp_path: Path) -> None:
    text = refusal("serve", "--data", str(tmp_path / "data"), DISPATCH_MARKETS='{"atlantis": {"offer_ttl_s": 8}}')
    assert "atlantis" in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"DISPATCH_FCM_ACCOUNT": "/nonexistent.json"}, "fcm_account"),
        ({"DISPATCH_FCM_ACCOUNT": "/"}, "fcm_account"),
        ({"DISPATCH_VAPID_PRIVATE_KEY": "hush-hush", "DISPATCH_VAPID_SUBJECT": "mailto:a@b.c"}, "vapid_private_key"),
    ],
)
def test_a_channel_that_cannot_be_is_told_before_anything_starts(
    tmp_path: Path, given: dict[str, str], says: str
) -> None:
    text = refusal("serve", "--port", "0", "--data", str(tmp_path / "data"), **given)
    assert says in text
    assert "hush" not in text
    assert not (tmp_path / "data").exists()


def test_links_that_would_lead_nowhere_are_warned_of(tmp_path: Path) -> None:
    down = {"DATABASE_URL": "postgresql://127.0.0.1:1/x", "DISPATCH_HOST": "0.0.0.0"}
    assert "DISPATCH_PUBLIC_URL" in refusal_after_warnings("serve", "--port", "0", "--data", str(tmp_path), **down)
    reached = down | {"DISPATCH_PUBLIC_URL": "https://dispatch.test"}
    assert "DISPATCH_PUBLIC_URL" not in refusal_after_warnings(
        "serve", "--port", "0", "--data", str(tmp_path), **reached
    )


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = refusal("serve", "--port", str(port), "--data", str(tmp_path))
    assert f"port {port}" in text
    assert "--port" in text


@pytest.mark.parametrize("name", ["serve", "migrate"])
def test_a_postgres_that_is_down_is_told_without_its_password(tmp_path: Path, name: str) -> None:
    url = "postgresql://joe:hush-hush@127.0.0.1:1/x"
    text = refusal(name, "--data", str(tmp_path), DATABASE_URL=url, REDIS_URL="redis://127.0.0.1:1")
    assert "Postgres cannot be reached at DATABASE_URL=postgresql://joe:***@127.0.0.1:1/x" in text
    assert "hush" not in text


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://x", "is no address of a Postgres"),
        ("postgresql://postgres@/no_such_database?host={sockets}&port=5432", "does not exist"),
    ],
)
def test_an_address_that_is_wrong_is_told(stores: object, redis_url: str, url: str, says: str) -> None:
    sockets = redis_url.removeprefix("unix://").rpartition("/")[0]
    assert says in refusal("migrate", DATABASE_URL=url.replace("{sockets}", sockets), REDIS_URL=redis_url)


def test_a_redis_that_is_down_does_not_keep_the_server_from_serving(database_url: str) -> None:
    with serving("--workers", "1", DATABASE_URL=database_url, REDIS_URL="redis://127.0.0.1:1") as (process, address):
        assert '"degraded":true' in get(f"{address}/readyz").replace(" ", "")
        process.send_signal(signal.SIGTERM)
        assert "Redis cannot be reached at REDIS_URL=redis://127.0.0.1:1" in process.communicate(timeout=60)[1]


def test_serve_on_an_empty_folder_and_stop_by_ctrl_c(tmp_path: Path) -> None:
    with serving("--workers", "2", "--data", str(tmp_path)) as (process, address):
        assert '"ready"' in get(f"{address}/readyz")
        assert "dispatch_" in get(f"{address}/metrics")
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "Traceback" not in err
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


def test_ctrl_c_before_it_is_ready_stops_the_stores_too(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dispatch", "serve", "--port", "0", "--data", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert "first start" in process.stdout.readline()  # initdb is running now
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert command("migrate", "--data", str(tmp_path)).returncode == 0


def test_migrate_says_what_it_did(empty_database_url: str, redis_url: str) -> None:
    stores = {"DATABASE_URL": empty_database_url, "REDIS_URL": redis_url}
    first, second = command("migrate", **stores), command("migrate", **stores)
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.stdout.startswith("migrated: 0001_")
    assert second.stdout == "nothing to do: the database is up to date\n"


def test_seed_writes_working_tokens_that_only_the_owner_reads(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    people = ["--market", "sf", "--providers", "3", "--customers", "2"]
    done = command("seed", *people, "--tokens", str(file), **stores, **SIGNED)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in file.read_text().splitlines()]
    assert [role for role, _, _ in rows] == ["provider"] * 3 + ["customer"] * 2
    assert all(claims_of(token)["sub"] == user for _, user, token in rows)
    assert len({user for _, user, _ in rows}) == 5
    assert file.stat().st_mode & 0o077 == 0
    people[1] = "atlantis"
    assert "'atlantis'" in refusal("seed", *people, "--tokens", str(file), **stores)


def test_admin_makes_the_first_one_and_promotes_the_next(database_url: str, redis_url: str) -> None:
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    first, second = (command("admin", "--email", email, **stores) for email in ("boss@example.com", "Boss@Example.com"))
    assert (first.returncode, second.returncode) == (0, 0), first.stderr
    user = re.search(r"boss@example\.com is an admin now \(user ([0-9a-f-]{36})\)", first.stdout)
    password = re.search(r"^password: (\S{20})$", first.stdout, re.MULTILINE)
    assert user is not None
    assert password is not None
    assert "existing" not in first.stdout
    assert user[1] in second.stdout
    assert "promoted the existing account" in second.stdout
    assert "password:" not in second.stdout
    assert "'boss'" in refusal("admin", "--email", "boss", **stores)
    with serving(**stores) as (_, url):
        body = json.dumps({"email": "boss@example.com", "password": password[1]}).encode()
        asked = urllib.request.Request(f"{url}/v1/auth/sign-in", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            token = json.load(answer)["access_token"]
        asked = urllib.request.Request(f"{url}/v1/me", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=20) as answer:
            assert json.load(answer)["roles"] == ["admin", "customer"]


def test_the_books_are_compared_with_exit_codes_for_a_timer(database_url: str, redis_url: str, tmp_path: Path) -> None:
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    clean = command("ledger", "reconcile", **stores)
    assert clean.returncode == 0, clean
    assert json.loads(clean.stdout)["summary"]["differences"] == 0
    export = tmp_path / "bank.jsonl"
    export.write_text('{"account": "bank_clearing", "ref": "wd:1", "currency": "THB", "amount_minor": -5}\n')
    different = command("ledger", "reconcile", "--export", str(export), **stores)
    assert different.returncode == 1, different
    assert [json.loads(line).get("check") for line in different.stdout.splitlines()] == ["i", None]
    export.write_text("{}\n")
    assert "line 1" in refusal("ledger", "reconcile", "--export", str(export), **stores)
    assert "cannot be reached" in refusal(
        "ledger", "reconcile", DATABASE_URL="postgresql://127.0.0.1:1/x", REDIS_URL=redis_url
    )


def test_a_database_without_books_is_told_and_not_migrated(empty_database_url: str, redis_url: str) -> None:
    stores = {"DATABASE_URL": empty_database_url, "REDIS_URL": redis_url}
    assert "`dispatch migrate`" in refusal("ledger", "reconcile", **stores)
    assert "migrated: 0001" in command("migrate", **stores).stdout


def test_a_statement_is_asked_for_by_owner_and_moment(database_url: str, redis_url: str) -> None:
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    nobody = command("ledger", "statement", "--owner", str(uuid4()), "--at", "2026-11-20T12:00:00+07:00", **stores)
    assert (nobody.returncode, nobody.stdout) == (0, "")
    assert "has no accounts" in nobody.stderr
    assert command("ledger", "statement", "--owner", "me", **stores).returncode == 2
    assert command("ledger", "statement", "--owner", str(uuid4()), "--at", "yesterday", **stores).returncode == 2


def test_doctor_finds_a_healthy_server(database_url: str, redis_url: str) -> None:
    done = command("doctor", DATABASE_URL=database_url, REDIS_URL=redis_url, **SIGNED)
    # The stores of the tests give up durability for speed, and doctor must see that: it is the one thing wrong.
    bad = [line for line in done.stdout.splitlines() if line.startswith("BAD")]
    assert (done.returncode, len(bad)) == (1, 1)
    assert "synchronous_commit" in bad[0]
    assert SECRET not in done.stdout
    for name in Settings.model_fields:
        assert f"DISPATCH_{name.upper()}=" in done.stdout


def test_doctor_says_what_is_wrong_and_what_to_do(empty_database_url: str) -> None:
    wrong = {
        "DATABASE_URL": empty_database_url,
        "REDIS_URL": "redis://:hush-hush@127.0.0.1:1",
        "DISPATCH_HOST": "0.0.0.0",
        "DISPATCH_WORKERS": "64",
    }
    done = command("doctor", **wrong)
    assert done.returncode == 1
    bad = "\n".join(line for line in done.stdout.splitlines() if line.startswith("BAD"))
    for part in ("DISPATCH_JWT_SECRETS", "dispatch migrate", "Redis cannot be reached", "max_connections"):
        assert part in bad
    assert "hush" not in done.stdout


def test_doctor_looks_at_the_mail_server_and_the_object_store(tmp_path: Path) -> None:
    folder = tmp_path / "file"
    folder.write_text("no folder")
    wrong = {
        "DATABASE_URL": "postgresql://127.0.0.1:1/x",
        "REDIS_URL": "redis://127.0.0.1:1",
        "DISPATCH_MAIL_BY": "smtp",
        "DISPATCH_SMTP_HOST": "127.0.0.1",
        "DISPATCH_SMTP_PORT": "1",
        "DISPATCH_SMTP_USER": "joe",
        "DISPATCH_SMTP_PASSWORD": "hush-hush",
        "DISPATCH_HOST": "0.0.0.0",
        "DISPATCH_STORAGE_DIR": str(folder),
    }
    done = command("doctor", **wrong)
    bad = "\n".join(line for line in done.stdout.splitlines() if line.startswith("BAD"))
    for part in ("127.0.0.1 port 1", "DISPATCH_SMTP_", str(folder), "DISPATCH_STORAGE_"):
        assert part in bad
    assert "hush" not in done.stdout
    assert re.search(r"^note .*http://0\.0\.0\.0:8080.*DISPATCH_PUBLIC_URL", done.stdout, re.MULTILINE)


def test_doctor_lists_the_settings_when_one_is_misspelt() -> None:
    done = command("doctor", DISPATCH_WORKRES="3")
    assert done.returncode == 1
    assert "BAD" in done.stdout
    assert "DISPATCH_WORKERS=2" in done.stdout
