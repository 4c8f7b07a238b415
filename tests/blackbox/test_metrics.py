"""doc/metrics.md says what /metrics shows: no more, no less."""

import re

from conftest import ROOT

PAGE = (ROOT / "doc/metrics.md").read_text()
ROW = re.compile(r"^\| `(holdfast_\w+)` \| (\w+) \| [^|]* \| (.*) \|$", re.M)


def test_every_metric_is_on_the_page_as_the_gateway_describes_it(start_tls, certs):
    gateway = start_tls(f'client_certificate = optional  ca = "{certs}/ca.pem"  crl = "{certs}/crl.pem"')
    text = gateway.http("GET", "/metrics").body.decode()
    kinds = dict(re.findall(r"^# TYPE (\w+) (\w+)$", text, re.M))
    helps = dict(re.findall(r"^# HELP (\w+) (.*)$", text, re.M))
    rows = ROW.findall(PAGE)
    assert sorted(name for name, _, _ in rows) == sorted(kinds), "on the page once each"
    assert {(name, kind, what) for name, kind, what in rows} == {(name, kinds[name], helps[name]) for name in kinds}


def test_every_reason_is_on_the_page(gateway):
    shown = set(re.findall(r'reason="(\w+)"', "\n".join(s for s in gateway.metrics() if "connections_closed" in s)))
    assert shown == set(re.findall(r"^\| `(\w+)` \|", PAGE.partition("## Why connections end")[2], re.M))
