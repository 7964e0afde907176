"""The parts of a dashboard: its variables, its panels, and their places."""

# The labels that every query selects by. PodMonitor sets both.
AT = 'site=~"$site", node=~"$node"'


def quantile(share, metric):
    expr = f"histogram_quantile({share}, sum by (le, site) (rate({metric}_bucket{{{AT}}}[$__rate_interval])))"
    return expr, f"{{{{site}}}} p{share * 100:g}"


def stat(title, expr, unit, text, legend=""):
    return {"type": "stat", "title": title, "queries": [(expr, legend)], "unit": unit, "text": text}


def graph(title, queries, unit, text):
    return {"type": "timeseries", "title": title, "queries": queries, "unit": unit, "text": text}


def price(name, label, value):
    """A variable that a reader may change at the top of a dashboard. Queries name it with a dollar sign."""
    current = {"text": value, "value": value}
    option = {"selected": True, **current}
    return {"name": name, "type": "textbox", "label": label, "query": value, "current": current, "options": [option]}


def board(uid, title, panels, prices=(), of="lockstep_ready"):
    """A dashboard. Sites and nodes are chosen from the series of the metric `of`."""
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "uid": uid,
        "title": title,
        "tags": ["lockstep"],
        "schemaVersion": 39,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus"},
                choice("site", f"label_values({of}, site)", source),
                choice("node", f'label_values({of}{{site=~"$site"}}, node)', source),
                *prices,
            ]
        },
        "panels": placed(panels, source),
    }


def choice(name, query, source):
    return {
        "name": name,
        "type": "query",
        "datasource": source,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def placed(panels, source):
    """Small panels in a row of up to four first, then graphs in two columns."""
    stats = [panel for panel in panels if panel["type"] == "stat"]
    graphs = [panel for panel in panels if panel["type"] != "stat"]
    width = 24 // max(len(stats), 1)
    spots = [{"x": at * width, "y": 0, "w": width, "h": 4} for at in range(len(stats))]
    spots += [{"x": at % 2 * 12, "y": 4 + at // 2 * 8, "w": 12, "h": 8} for at in range(len(graphs))]
    return [whole(number, panel, spot, source) for number, (panel, spot) in enumerate(zip(stats + graphs, spots), 1)]


def whole(number, panel, spot, source):
    targets = [
        {"refId": chr(ord("A") + at), "datasource": source, "expr": expr, "legendFormat": legend or "__auto"}
        for at, (expr, legend) in enumerate(panel["queries"])
    ]
    return {
        "id": number,
        "type": panel["type"],
        "title": panel["title"],
        "description": panel["text"],
        "datasource": source,
        "gridPos": spot,
        "fieldConfig": {"defaults": {"unit": panel["unit"]}, "overrides": []},
        "targets": targets,
    }
