"""Overview, chart, single earnings and the calculation, through the real server."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import aiohttp
import orjson

from dispatch.earnings import Earnings, Payout
from dispatch.earnings.service import Asked
from dispatch.kit.postgres import Actor, Tx
from dispatch.markets import Markets
from protocol.resources.money import Period
from tests.earnings.stage import check_books, completed, paid_out
from tests.support.server import Person, Server, code, denied

SAN_FRANCISCO = (37.7749, -122.4194)
MINE = "/v1/providers/me/earnings"


def around_now() -> dict[str, date]:
    """Yesterday to tomorrow: now, in every time zone, and whenever the test crosses midnight."""
    today = datetime.now(UTC).date()
    return {"first": today - timedelta(days=1), "last": today + timedelta(days=1)}


async def move(server: Server, days: int, *earnings: str) -> None:
    """Let these have been earned days ago: behind the back of a table that is never changed."""
    await server.sql(
        "UPDATE earnings SET day = day - $1::int, earned_at = earned_at - make_interval(days => $1) WHERE id = ANY ($2::uuid[])",
        days,
        list(earnings),
    )


async def all_items(person: Person, **asked: Any) -> list[dict[str, Any]]:
    found, cursor = [], None
    while True:
        page = await person.http.earnings.items(cursor=cursor, **asked)
        found += page["items"]
        if (cursor := page.get("next_cursor")) is None:
            return found


async def test_an_overview_shows_each_part_and_each_service_type(server: Server) -> None:
    customer, admin = await server.person(), await server.admin()
    driver = await server.provider(service_types=["ride", "delivery"])
    ride = await completed(server, customer, driver, metres=5_000, riding_s=900, surge_pct=150)
    await completed(server, customer, driver, service_type="delivery")
    await customer.http.earnings.tip(ride, 2_000)
    await admin.http.earnings.adjust(driver.provider_id, -300, "THB", "a broken box")
    seen = await driver.http.earnings.overview(**around_now())
    by_type = {one["service_type"]: one for one in seen["by_service_type"]}
    assert by_type["ride"] == {
        "service_type": "ride", "jobs": 1, "regular_minor": 11_250, "tip_minor": 2_000, "net_minor": 11_000,
    }  # fmt: skip
    assert by_type["delivery"]["regular_minor"] == 3_500 and by_type["delivery"]["net_minor"] == 2_800
    assert (seen["surge_minor"], seen["tip_minor"], seen["bonus_minor"], seen["adjustment_minor"]) == (
        3_750,
        2_000,
        0,
        -300,
    )
    assert seen["regular_minor"] == 14_750 and seen["gross_minor"] == 14_750 + 2_000 - 300
    assert seen["platform_fee_minor"] == 2_250 + 700 and seen["net_minor"] == seen["gross_minor"] - 2_950
    assert seen["jobs"] == 2 and seen["time_zone"] == "Asia/Bangkok" and seen["currency"] == "THB"
    assert seen["lifetime"] == {"jobs": 2, "net_minor": seen["net_minor"]}
    assert await admin.http.earnings.overview(provider_id=driver.provider_id, **around_now()) == seen
    await check_books(server)


async def test_a_period_holds_its_days_and_no_others(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    for _ in range(3):
        await completed(server, customer, driver)
    newest, middle, oldest = [one["id"] for one in await all_items(driver, **around_now())]
    await move(server, 1, middle)
    await move(server, 40, oldest)
    day = date.fromisoformat((await all_items(driver, **around_now()))[0]["day"])
    assert (await driver.http.earnings.overview(Period.DAY, day))["jobs"] == 1
    assert (await driver.http.earnings.overview(Period.DAY, day - timedelta(days=1)))["jobs"] == 1
    assert (await driver.http.earnings.overview(Period.DAY, day - timedelta(days=2)))["jobs"] == 0
    assert (await driver.http.earnings.overview(first=day - timedelta(days=40), last=day))["jobs"] == 3
    assert (await driver.http.earnings.overview(Period.MONTH, day - timedelta(days=40)))["jobs"] == 1
    assert [one["id"] for one in await all_items(driver, first=day - timedelta(days=40), last=day)] == [
        newest, middle, oldest,
    ]  # fmt: skip
    assert [
        one["id"] for one in await all_items(driver, first=day - timedelta(days=40), last=day - timedelta(days=2))
    ] == [oldest]

    chart = await driver.http.earnings.chart(first=day - timedelta(days=3), last=day)
    assert [(one["day"], one["jobs"], one["net_minor"]) for one in chart["points"]] == [
        ((day - timedelta(days=3)).isoformat(), 0, 0),
        ((day - timedelta(days=2)).isoformat(), 0, 0),
        ((day - timedelta(days=1)).isoformat(), 1, 2_800),
        (day.isoformat(), 1, 2_800),
    ]
    week = await driver.http.earnings.chart(Period.WEEK, day)
    assert len(week["points"]) == 7 and date.fromisoformat(week["from_day"]).weekday() == 0
    assert len((await driver.http.earnings.chart(first=day - timedelta(days=365), last=day))["points"]) == 366


async def test_nothing_earned_is_nothing_and_no_error(server: Server) -> None:
    driver = await server.provider(approved=False)
    seen = await driver.http.earnings.overview()
    assert seen["net_minor"] == 0 and seen["by_service_type"] == [] and seen["lifetime"] == {"jobs": 0, "net_minor": 0}
    bangkok = datetime.now(ZoneInfo("Asia/Bangkok")).date()
    assert (
        abs(date.fromisoformat(seen["from_day"]) - bangkok) <= timedelta(days=1) and seen["from_day"] == seen["to_day"]
    )
    assert (await driver.http.earnings.items())["items"] == []
    (point,) = (await driver.http.earnings.chart())["points"]
    assert point["net_minor"] == 0


async def test_days_are_those_of_the_market_and_currencies_never_mix(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    await completed(server, customer, driver)
    await completed(server, customer, driver)
    home = await driver.http.earnings.overview(**around_now())
    await completed(server, customer, driver, at=SAN_FRANCISCO)
    away = await driver.http.earnings.overview(**around_now(), currency="USD")
    assert (away["time_zone"], away["jobs"], away["currency"]) == ("America/Los_Angeles", 1, "USD")
    assert away["lifetime"]["jobs"] == 1
    # Unless told otherwise the currency is the one that he last earned in, as in his wallet and on his dashboard.
    assert await driver.http.earnings.overview(**around_now()) == away
    assert await driver.http.earnings.overview(**around_now(), currency="THB") == home
    (item,) = await all_items(driver, **around_now(), currency="USD")
    earned = datetime.fromisoformat(item["earned_at"])
    assert item["day"] == earned.astimezone(ZoneInfo("America/Los_Angeles")).date().isoformat()
    (stored,) = await server.sql("SELECT day::text FROM earnings WHERE currency = 'THB' ORDER BY earned_at LIMIT 1")
    first = (await all_items(driver, **around_now(), currency="THB"))[-1]
    assert first["day"] == stored["day"]
    assert (
        first["day"]
        == datetime.fromisoformat(first["earned_at"]).astimezone(ZoneInfo("Asia/Bangkok")).date().isoformat()
    )


async def test_items_come_in_pages_newest_first(server: Server) -> None:
    customer, driver, other = await server.person(), await server.provider(), await server.provider()
    jobs = [str(await completed(server, customer, driver)) for _ in range(5)]
    await completed(server, customer, other)
    assert [one["job_id"] for one in await all_items(driver, **around_now(), limit=2)] == jobs[::-1]
    admin = await server.admin()
    assert [
        one["job_id"] for one in await all_items(admin, **around_now(), limit=2, provider_id=driver.provider_id)
    ] == jobs[::-1]


BAD = [
    ("date=2026-13-01", "INVALID_DATE_RANGE"),
    ("date=20261101", "INVALID_DATE_RANGE"),
    ("from=2026-11-01", "INVALID_DATE_RANGE"),
    ("from=2026-11-02&to=2026-11-01", "INVALID_DATE_RANGE"),
    ("from=2025-01-01&to=2026-11-01", "INVALID_DATE_RANGE"),
    ("from=2026-11-01&to=2026-11-02&period=day", "INVALID_DATE_RANGE"),
    ("period=month&date=0001-01-01", "INVALID_DATE_RANGE"),
    ("period=month&date=9999-12-31", "INVALID_DATE_RANGE"),
    ("period=year", "VALIDATION_ERROR"),
    ("currency=XXX", "VALIDATION_ERROR"),
    ("currency=thb", "VALIDATION_ERROR"),
    ("limit=0", "VALIDATION_ERROR"),
]


async def test_bad_questions_are_refused(server: Server) -> None:
    driver = await server.provider(approved=False)
    for query, expected in BAD:
        for path in (MINE, f"{MINE}/chart", f"{MINE}/items"):
            refusal = await denied(driver.http.call("GET", f"{path}?{query}"))
            # Only a list knows a limit, and every other route refuses what it does not know.
            assert refusal.code == expected, (path, query)


async def test_earnings_are_a_providers_and_the_offices(server: Server) -> None:
    nobody, admin, driver = await server.person(), await server.admin(), await server.provider()
    for path in (MINE, f"{MINE}/chart", f"{MINE}/items"):
        with code("PROVIDER_NOT_FOUND"):
            await nobody.http.call("GET", path)
    with code("PROVIDER_NOT_FOUND"):
        await admin.http.earnings.overview(provider_id=uuid4())
    for refused in (nobody, driver):
        with code("FORBIDDEN"):
            await refused.http.earnings.overview(provider_id=driver.provider_id)
        with code("FORBIDDEN"):
            await refused.http.earnings.items(provider_id=driver.provider_id)


async def test_a_calculation_is_for_the_parties_and_posts_nothing(server: Server) -> None:
    customer, driver, stranger, admin = (
        await server.person(), await server.provider(), await server.provider(), await server.admin(),
    )  # fmt: skip
    job = await completed(server, customer, driver)
    before = await server.sql("SELECT count(*) AS n FROM ledger_txn")
    for person in (customer, driver, admin):
        plain = await person.http.earnings.calculate(job, distance_m=5_000, duration_s=900)
        assert (plain["total_minor"], plain["platform_fee_minor"], plain["provider_earnings_minor"]) == (
            7_500,
            1_500,
            6_000,
        )
        surged = await person.http.earnings.calculate(job, distance_m=5_000, duration_s=900, surge_multiplier=1.5)
        assert (surged["surge_minor"], surged["total_minor"]) == (3_750, 11_250)
    with code("JOB_NOT_FOUND"):
        await stranger.http.earnings.calculate(job, distance_m=1, duration_s=1)
    with code("JOB_NOT_FOUND"):
        await driver.http.earnings.calculate(uuid4(), distance_m=1, duration_s=1)
    good = {"job_id": str(job), "distance_m": 1, "duration_s": 1, "surge_multiplier": 1}
    for wrong in (
        {"distance_m": -1},
        {"duration_s": "1"},
        {"surge_multiplier": 1.001},
        {"surge_multiplier": 0.5},
        {"job_id": "x"},
    ):
        with code("VALIDATION_ERROR"):
            await driver.http.call("POST", "/v1/earnings/calculate", good | wrong)
    for missing in good:
        with code("VALIDATION_ERROR"):
            await driver.http.call("POST", "/v1/earnings/calculate", {k: v for k, v in good.items() if k != missing})
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {driver.token}"}) as session:
        for word in ("NaN", "Infinity", "1e999"):
            body = orjson.dumps(good).replace(b'"distance_m":1', f'"distance_m":{word}'.encode())
            async with session.post(f"{server.url()}/v1/earnings/calculate", data=body) as answer:
                assert answer.status == 400, word
    assert await server.sql("SELECT count(*) AS n FROM ledger_txn") == before


class Drawn:
    """Withdrawals as another slice will tell of them."""

    def __init__(self, *amounts: int) -> None:
        self.payouts_made = [Payout(uuid4(), sum(amounts[: n + 1])) for n in range(len(amounts))]
        self.asked: list[tuple[int, int]] = []

    async def payouts(
        self, tx: Tx, user_id: UUID, currency: str, *, lowest_minor: int, highest_minor: int
    ) -> Sequence[Payout]:
        self.asked.append((lowest_minor, highest_minor))
        enough = [n for n, one in enumerate(self.payouts_made) if one.upto_minor >= highest_minor][:1]
        upto = enough[0] + 1 if enough else len(self.payouts_made)
        return [one for one in self.payouts_made[:upto] if one.upto_minor >= lowest_minor]


async def test_the_oldest_earnings_are_marked_as_paid_out(server: Server) -> None:
    customer, driver = await server.person(), await server.provider()
    for _ in range(4):
        await completed(server, customer, driver)  # 2,800 each
    await completed(server, customer, driver, cash=True)  # takes 700
    await paid_out(server, driver, 8_400)
    drawn = Drawn(2_900, 5_500)
    earnings = Earnings(server.app.pg, Markets.load(), drawn)
    asked = Asked(**around_now())

    async def marks(limit: int, cursor: str | None = None) -> tuple[list[Any], str | None]:
        page = orjson.loads(await earnings.items(Actor(driver.user_id), asked, limit=limit, cursor=cursor))
        return [(one.get("paid_out"), one.get("payout_id")) for one in page["items"]], page.get("next_cursor")

    first, second = (str(one.id) for one in drawn.payouts_made)
    everything = [(None, None), (False, None), (True, second), (True, second), (True, first)]
    assert (await marks(10))[0] == everything
    assert drawn.asked == [(2_800, 11_200)]
    paged, cursor = await marks(2)
    while cursor is not None:
        more, cursor = await marks(2, cursor)
        paged += more
    assert paged == everything, "a page asks for its own stretch of the withdrawals only, and says the same"
    # What is earned later changes no mark of before; and a page reads no more rows than it shows.
    await completed(server, customer, driver)
    assert (await marks(10))[0][1:] == everything
    await check_books(server)
