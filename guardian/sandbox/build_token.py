"""Compiles token.sol into token.json: run by hand after a change of token.sol.

`python -m guardian.sandbox.build_token`
"""

import json
import subprocess
from pathlib import Path

from guardian.sandbox.node import node_command, npm_packages

SOLC = "0.8.30"
SETTINGS = {
    "evmVersion": "paris",
    "optimizer": {"enabled": True, "runs": 200},
    "metadata": {"bytecodeHash": "none", "appendCBOR": False},
    "outputSelection": {"*": {"*": ["evm.deployedBytecode.object"]}},
}
HERE = Path(__file__).parent
SCRIPT = """
const solc = require('solc'); const text = require('fs').readFileSync(0, 'utf8');
process.stdout.write(JSON.stringify({version: solc.version(), output: JSON.parse(solc.compile(text))}));
"""


def main() -> None:
    where = npm_packages("solc", {"solc": SOLC})
    source = (HERE / "token.sol").read_text()
    job = {"language": "Solidity", "sources": {"token.sol": {"content": source}}, "settings": SETTINGS}
    ran = subprocess.run(
        [*node_command(), "-e", SCRIPT],
        input=json.dumps(job),
        cwd=where,
        capture_output=True,
        text=True,
        check=True,
    )
    built = json.loads(ran.stdout)
    errors = [e["formattedMessage"] for e in built["output"].get("errors", []) if e["severity"] == "error"]
    if errors:
        raise SystemExit("\n".join(errors))
    contracts = built["output"]["contracts"]["token.sol"]
    code = {
        name: "0x" + contracts[name]["evm"]["deployedBytecode"]["object"]
        for name in ("Token", "Multicall", "Wallet")
    }
    facts = {"source": "token.sol", "compiler": f"npm solc {SOLC} ({built['version']})", "settings": SETTINGS}
    (HERE / "token.json").write_text(json.dumps(facts | {"runtime": code}, indent=1) + "\n")


if __name__ == "__main__":
    main()
