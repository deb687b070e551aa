"""People for load tests: approved providers and customers, made in bulk."""

from uuid import UUID

from dispatch.kit.ids import new_id, new_word
from dispatch.kit.postgres import Postgres, patient
from dispatch.providers.store import Q, require
from dispatch.settings import Settings

_BATCH = 1_000


async def seed(settings: Settings, *, providers: int, customers: int) -> list[tuple[str, UUID]]:
    """Make `providers` approved providers (service type ride, radius 10 km) and `customers` customers; (role, user id) of each.

    May be called again: everybody made is new. They belong to no market: a provider works where he sends his position from.
    """
    if settings.database_url is None:
        raise ValueError("seeding needs a database")
    people = [("provider", new_id()) for _ in range(providers)] + [("customer", new_id()) for _ in range(customers)]
    # Names, addresses and numbers must be unique for ever: a random run in front, a counter behind.
    run = new_word(8)
    async with Postgres.open(settings.database_url, size=2) as pg:
        await require(pg, settings.required_documents, settings.vehicle_services)
        for start in range(0, len(people), _BATCH):
            batch = list(enumerate(people[start : start + _BATCH], start))
            users = [user_id for _, (_, user_id) in batch]
            names = [f"{role.capitalize()} {number}" for number, (role, _) in batch]
            working = [
                (number, user_id, name)
                for (number, (role, user_id)), name in zip(batch, names, strict=True)
                if role == "provider"
            ]
            made = [new_id() for _ in working]
            async with pg.system_tx() as tx:
                # A load test's making, not a request: it may take its time on a busy machine.
                timeout = await patient(tx, 60)
                await tx.execute(Q["seed_users"], users, names, "Seeded", timeout=timeout)
                await tx.execute(
                    Q["seed_providers"],
                    made,
                    [user_id for _, user_id, _ in working],
                    [name for _, _, name in working],
                    [f"{run}.{number}@seed.invalid" for number, _, _ in working],
                    [f"+0{int(run, 16):010d}{number:07d}" for number, _, _ in working],
                    [f"SEED-{run.upper()}-{number}" for number, _, _ in working],
                    timeout=timeout,
                )
                await tx.execute(Q["seed_papers"], made, [user_id for _, user_id, _ in working], timeout=timeout)
    return people
