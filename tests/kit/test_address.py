import pytest

from dispatch.kit.address import Proxies

OURS = Proxies(["10.0.0.0/8", "::1/128"])


@pytest.mark.parametrize(
    ("remote", "header", "address"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # not a proxy of ours: his word counts nothing
        ("10.1.2.3", "", "10.1.2.3"),
        ("10.1.2.3", "198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "1.1.1.1, 198.51.100.1, 10.9.9.9", "198.51.100.1"),  # what stands before it, he wrote himself
        ("10.1.2.3", "10.9.9.9, 10.8.8.8", "10.9.9.9"),
        ("10.1.2.3", "unknown, 198.51.100.1", "198.51.100.1"),
        ("10.1.2.3", "198.51.100.1, evil", "10.1.2.3"),
        ("::1", "2001:db8::7", "2001:db8::7"),
        ("10.1.2.3", "1.1.1.1," * 1000, "10.1.2.3"),
        ("", "198.51.100.1", ""),
    ],
)
def test_the_last_hop_that_is_not_ours_is_the_caller(remote: str, header: str, address: str) -> None:
    assert OURS.address_of(remote, header) == address


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError):
        Proxies(["10.0.0.1/8"])
    assert not Proxies([])
