"""One parser of addresses, for all who take one."""

import errno

import pytest

from common.domain.address import (
    binding_fault,
    leads_to_several,
    parse_address,
    parse_host,
    parse_replicas,
)
from common.domain.errors import InvalidInputError


@pytest.mark.parametrize(
    ("text", "shown", "target"),
    [
        ("tx2.local:50050", "tx2.local:50050", "dns:///tx2.local:50050"),
        ("edge_backbone:1", "edge_backbone:1", "dns:///edge_backbone:1"),
        ("unix:1", "unix:1", "unix:1"),
        ("dns:50050", "dns:50050", "dns:///dns:50050"),
        ("bücher.local:5", "bücher.local:5", "dns:///xn--bcher-kva.local:5"),
        ("127.0.0.1:65535", "127.0.0.1:65535", "dns:///127.0.0.1:65535"),
        ("ipv4:10.0.0.1:7", "10.0.0.1:7", "dns:///10.0.0.1:7"),
        ("dns:///tx2.local:50050", "tx2.local:50050", "dns:///tx2.local:50050"),
        ("dns:tx2.local:50050", "tx2.local:50050", "dns:///tx2.local:50050"),
        ("[::1]:50050", "[::1]:50050", "dns:///[::1]:50050"),
        ("ipv6:[::1]:50050", "[::1]:50050", "dns:///[::1]:50050"),
        ("::1", "[::1]:50051", "dns:///[::1]:50051"),
        ("[::1]", "[::1]:50051", "dns:///[::1]:50051"),
        ("ipv6:::1", "[::1]:50051", "dns:///[::1]:50051"),
        ("ipv6:[::1]", "[::1]:50051", "dns:///[::1]:50051"),
        # Five digits are no part of an IPv6 address; four are.
        ("fd00::5:50053", "[fd00::5]:50053", "dns:///[fd00::5]:50053"),
        ("fd00::5:5005", "[fd00::5:5005]:50051", "dns:///[fd00::5:5005]:50051"),
        ("::ffff:10.0.0.1", "[::ffff:10.0.0.1]:50051", "dns:///[::ffff:10.0.0.1]:50051"),
        ("tx2.local", "tx2.local:50051", "dns:///tx2.local:50051"),
        ("127.0.0.1", "127.0.0.1:50051", "dns:///127.0.0.1:50051"),
        ("fe80::1%eth0", "[fe80::1%eth0]:50051", "dns:///[fe80::1%25eth0]:50051"),
        ("unix:/run/t.sock", "unix:/run/t.sock", "unix:/run/t.sock"),
        ("unix:///run/t.sock", "unix:/run/t.sock", "unix:/run/t.sock"),
        ("unix:t.sock", "unix:t.sock", "unix:t.sock"),
        ("unix-abstract:tandem", "unix-abstract:tandem", "unix-abstract:tandem"),
    ],
)
def test_spellings(text, shown, target):
    address = parse_address(text, 50051)
    assert (str(address), address.target) == (shown, target)
    # What is shown can be used as it is.
    assert parse_address(shown) == address


@pytest.mark.parametrize(
    "text",
    [
        *("", ":50050", "tx2 local", "tx2.local:", "tx2.local:http", "h:0", "h:65536", "h:-1"),
        *("h:9999999999999", "h:٣", "a b:3", "h :3", "http://h:50050", "h:1/path", "user@h:1"),
        *("[h]:3", "[10.0.0.1]:3", "[::1", "[::1]x:3", "[::1]:", "1:2:3", "::1::2:3:4", "h:1\n"),
        *(
            "*:50050",
            "unix:",
            "unix://host/x",
            "ipv4:h:1",
            "ipv6:h:1",
            "fe80::1%:1:2:3:4:5:6:7:8:9",
        ),
    ],
)
def test_what_is_no_address(text):
    with pytest.raises(InvalidInputError, match=r"the server's address .* is not"):
        parse_address(text, 50050, "the server's address")


@pytest.mark.parametrize("text", ["::1", "tx2.local", "127.0.0.1"])
def test_a_port_is_asked_for_where_there_is_no_default(text):
    with pytest.raises(InvalidInputError, match=r" is not host:port, .*\[::1\]:50050"):
        parse_address(text)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        *(("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::]", "::"), ("ipv6:[::1]", "::1")),
        *(("localhost", "localhost"), ("unix:///run/t", "unix:/run/t"), ("fe80::1%1", "fe80::1%1")),
    ],
)
def test_hosts_to_listen_on(text, host):
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "shown", "is_name"),
    [
        ("dns:///transformer:7", "dns:///transformer:7", True),
        ("dns:transformer:7", "dns:///transformer:7", True),
        ("dns:///transformer", "dns:///transformer:50051", True),
        ("transformer:7", "transformer:7", False),
        ("dns:7", "dns:7", False),
        ("dns:///dns:7", "dns:///dns:7", True),
        # Nothing has to be looked up.
        ("dns:///10.0.0.1:7", "10.0.0.1:7", False),
        ("dns:///[fd00::1]:7", "[fd00::1]:7", False),
        ("ipv4:10.0.0.1:7", "10.0.0.1:7", False),
        ("unix:/run/t", "unix:/run/t", False),
    ],
)
def test_names_that_lead_to_several(text, shown, is_name):
    assert parse_replicas(text, 50051) == shown
    assert leads_to_several(shown) is is_name


@pytest.mark.parametrize("text", ["dns://8.8.8.8/transformer:7", "dns:///", "dns:///a b:7"])
def test_what_is_no_name_of_several(text):
    with pytest.raises(InvalidInputError, match="host:port"):
        parse_replicas(text, 50051)


# To a resolver, * is this machine alone, or where it is asked for something to listen on, all.
@pytest.mark.parametrize("text", ["", "a b", "h:3", "[::1]:3", "[h]", "http://h", "*", "*.local"])
def test_what_is_no_host(text):
    with pytest.raises(InvalidInputError, match="the host"):
        parse_host(text)


@pytest.mark.parametrize(
    ("host", "port", "number", "words"),
    [
        (
            "::1",
            50050,
            errno.EADDRINUSE,
            "cannot listen on [::1]:50050: port 50050 of ::1 is in use",
        ),
        ("unix:/t", 0, errno.EADDRINUSE, "cannot listen on unix:/t: unix:/t is in use"),
        ("0.0.0.0", 80, errno.EACCES, "permission denied; ports below 1024 are for root"),
        ("10.0.0.9", 5, errno.EADDRNOTAVAIL, "10.0.0.9 is no address of this machine"),
        ("unix:/no/t", 0, errno.ENOENT, "cannot listen on unix:/no/t: words of the system"),
    ],
)
def test_why_nothing_can_listen(host, port, number, words):
    assert words in binding_fault(host, port, OSError(number, "words of the system"))
