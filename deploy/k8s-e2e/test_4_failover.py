"""Three sites: the third one joins, and the writes move to it and back."""

import json

import client
import kube
import pytest
import sites
from conftest import ready


@pytest.fixture(scope="module")
def three_sites(two_sites, program):
    third = sites.SITES[2]
    kube.lockstep("muc-1", 0, "site", "add", third, "--reason", "a third site")
    # The others learn its peer from their configuration, which they read at their next start; it knows them already.
    kube.apply(sites.site(third, sites.SITES, 1, program))
    ready(third, 1)
    for site in (two_sites[1], third):
        role(site, "standby")
    return sites.SITES


def epochs():
    """Each site with its role and its epoch."""
    found = json.loads(kube.lockstep("muc-1", 0, "sites", "--json"))
    return {site["site"]: (site["role"], site["epoch"]) for site in found["sites"]}


def role(site, wanted):
    now, epoch = epochs()[site]
    if now != wanted:
        change = ("site", "role", site, wanted, "--expect-epoch", str(epoch), "--reason", "one active site")
        kube.lockstep("muc-1", 0, *change)


def move(source, target, at):
    """A planned failover, commanded at a node of the site `at`."""
    plan = json.loads(kube.lockstep(at, 0, "failover", "plan", "--from", source, "--to", target, "--json"))
    execute = ("failover", "execute", "--from", source, "--to", target, "--yes", "--plan-hash", plan["hash"])
    return kube.lockstep(at, 0, *execute, "--reason", "a test", seconds=240)


def test_a_standby_names_the_active_site(three_sites):
    clone = client.Clone("demo", "at-a-standby")
    clone.commit()

    def refused():
        said, taken = clone.push(client.service("ham-1"))
        return not taken and "muc-1" in said and said

    said = kube.until("ham-1 refuses a push and names muc-1", 60, refused)
    print("    it says:", " ".join(said.split()))


def test_the_writes_move_to_another_site_and_back(three_sites):
    clone = client.Clone("demo", "moved")
    for source, target in (("muc-1", "ham-1"), ("ham-1", "muc-1")):
        clone.commit(f"before {source} -> {target}")
        clone.push_patiently(client.service(source))
        said = move(source, target, at="ber-1")
        print("   ", said.strip().splitlines()[-1])
        commit = clone.commit(f"after {source} -> {target}")
        took = clone.push_patiently(client.service(target), patience=30)
        print(f"    {target} took the next push after {took:.1f} s")
        for site in three_sites:
            url = client.service(site)
            shows = lambda: client.value(url, "demo", f"refs/heads/{clone.branch}") == commit
            kube.until(f"{site} shows it", 30, shows)
    assert epochs()["muc-1"][0] == "active" and epochs()["ham-1"][0] == "standby"
