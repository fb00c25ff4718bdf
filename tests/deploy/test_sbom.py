"""`make sbom`: what the gateway is made of, as the lock has it."""

import json
import re

from tests.deploy.tools import ROOT, succeed
from tests.servers import environment


def test_the_bill_of_materials_names_what_the_lock_pins_with_its_hashes():
    succeed("make", "sbom", env=environment(), seconds=110)
    bill = json.loads((ROOT / "dist/sbom.cdx.json").read_text("utf-8"))
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "glm-image-gateway"
    pins = set(re.findall(r"^([\w.-]+)==", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE))
    assert {part["name"] for part in bill["components"]} == pins
    assert all("pkg:pypi/" in part["purl"] for part in bill["components"])
    assert "SHA-256" in json.dumps(bill)
