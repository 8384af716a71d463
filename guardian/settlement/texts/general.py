"""The last rule about a text: validation language where nothing speaks of a later step. Pure data.

The rules of `refused.py` name what is refused word by word. This one takes any part of a request
with any word of validation, so it must not stand where a word of the text may belong to a transaction,
a lost answer or a crash: `LATER` lists those, and one of them anywhere leaves the text in doubt.
"""

import re

from guardian.settlement.texts.rule import Sign, any_of, text_rule

_PART = (
    r"(?:(?:payment ?)?(?:request|payload|requirements?)|req|body|(?:payment )?header|fields?|parameter|"
    r"propert(?:y|ies)|schema|json|base64|encoding|format|envelope|networks?|chain ?ids?|caip ?2?|scheme|"
    r"kind|asset|tokens?|mint|currency|coin|decimals|amount|value|price|quantity|fee payer|signature|signer|"
    r"sig|authori[sz]ation|permit ?2?|delegation|voucher|domain|versions?|address(?:es)?|recipient|receiver|"
    r"destination|pay ?to|payee|payer|sender|spender|owner|buyer|customer|merchant|seller|vendor|resource|"
    r"description|mime ?type|memo|extra|extensions?|deadline|expiry|expiration|"
    r"valid (?:after|before|until|from|to)|validity|timestamp|proof|allowance|(?:pre)?approval|trust ?line|"
    r"wallet|accounts?|witness|facilitator|instrument|transfer method|public key|pubkey|credentials?|quote|"
    r"invoice|salt|policy|session|spending cap|cap|x402|protocol version|challenge|mandate|delegat\w{2,4}|"
    r"fingerprint|private key)"
)
_BEFORE = (
    r"(?:invalid|malformed|missing|unsupported|unrecogni[sz]ed|wrong|incorrect|bad|empty|illegal|disallowed|"
    r"oversized|overlong|unacceptable|unreasonable|excessive|inadequate|mismatched|"
    r"unknown(?= (?:field|param|propert|kind|extension|merchant|token|asset|mint|currency|invoice))|expired|"
    r"insufficient|(?:failed|failure|unable|could not|couldn t|cannot|can t|error) (?:to )?(?:pars|decod|"
    r"validat|deseriali[sz]|convert)\w{0,4}|must (?:provide|include|specify|contain|have|supply)|requires?|"
    r"expected)"
)
_AFTER = (
    r"(?:invalid|malformed|missing|required|unsupported|not supported|mismatch(?:ed|es)?|"
    r"(?:does not|doesn t|did not|do not|not) match\w{0,3}|must|cannot be|can t be|should (?:be|have|not)|"
    r"needs? to be|expected|not (?:allowed|permitted|accepted|acceptable|recogni[sz]ed|registered|enabled|"
    r"approved|authori[sz]ed|eligible|configured|provided|specified|set|a|an|valid|equal|correct|"
    r"well formed)|disallowed|forbidden|prohibited|too (?:low|high|small|large|short|long|big|old|many|soon|"
    r"few)|is not (?:\d|one of)|expired|expiring|expires|disabled|wrong|incorrect|empty|insufficient|below|"
    r"less than|greater than|exceeds?|out of (?:range|bounds)|negative|non ?positive|zero|differs?|"
    r"different|unparseable|undecodable)"
)
_NETWORK = (
    r"evm|svm|tvm|avm|ton|tron|near|sui|aptos|stellar|solana|hedera|xrpl?|canton|cardano|algorand|stacks|"
    r"casper|kaspa|starknet|fuel|eip155|concordium"
)
_FAMILY = rf"(?:exact|upto|batch|deferred|{_NETWORK})\b"
_SCHEME = r"\binvalid (?:exact|upto|batch settlement|deferred) \w{2,12} "
_PREFIX = rf"{_SCHEME}(?:(?:payload|requirements|facilitator) )?"
_WORD = r"\w{1,24}"
_ENDING = (
    r"(?:invalid|mismatch|malformed|required|unsupported|insufficient|"
    r"not (?:supported|allowed|accepted|permitted|registered|approved|enabled|configured|valid|eligible)|"
    r"disabled|too (?:low|high|small|large|short|long|old)|below minimum|above maximum|out of range|"
    r"exceeds (?:limit|max|maximum|cap))"
)
_REASON = r"(?:^|\| )(?:err(?:or)? )?"

GENERAL = text_rule(
    "general",
    Sign.REFUSED,
    rf"\b{_BEFORE}\b[^|]{{0,40}}\b{_PART}s?\b",
    rf"\b{_PART}\b[^|]{{0,60}}(?:(?<!\w){_AFTER}(?!\w)|!==?)",
    r"\b(?:exceeds?|over|above) (?:the )?(?:\w{1,16} ){0,3}(?:limit|maximum|cap)\b|"
    r"\bis (?:\w{1,12} ){1,4}only\b|\bonly (?:supports?|accepts?|allows?)\b|"
    r"\b(?:supports?|accepts?) (?:\w{1,12} ){0,4}only\b",
    r"\bmust be (?:an? |0x|\d|hex|base64|in |one of |either |exactly |equal |greater |less |positive|non|"
    r"at least |at most |between |provided|specified|included|verified|signed|set\b)|"
    r"\bis (?:the )?zero address\b",
    # A reason of one token names what is wrong at its beginning or at its end.
    rf"{_REASON}(?:invalid|missing|unsupported|malformed|wrong|unrecogni[sz]ed|disallowed|unreasonable|"
    rf"insufficient) (?!{_FAMILY}|gas\b|fee){_WORD}(?: {_WORD}){{0,2}}(?= ?\||$)",
    rf"{_REASON}(?!payment (?:required|mismatch|invalid)\b|balance |"
    rf"settlement ){_WORD}(?: {_WORD}){{0,7}} {_ENDING}(?= ?\||$)",
    # Whatever it is that is refused.
    r"\b(?:does not|doesn t) support (?:x402|the (?:scheme|network|asset|token|version))|"
    r"\bno (?:\w{1,12} ){0,2}(?:auth(?:ori[sz]ation)?|credentials?) (?:entries|entry|provided|supplied)\b|"
    r"\bauth(?:ori[sz]ation)? entries missing\b",
    r"\b(?:is|are) required\b|\b(?:not supported|unsupported)\b|"
    r"\b(?:not|n t|t) match (?:the )?(?:payment )?(?:requirement|request|quote|accepted|config|expected)|"
    r"\bno (?:matching|suitable|compatible|acceptable)\b|\binsufficient payment\b|"
    r"\bunable to find matching\b",
    r"\b(?:base64|hex|cbor|bcs|xdr|rlp|payload|header) (?:decod\w{1,3}|pars\w{1,3}|deseriali[sz]ation|"
    r"encoding) (?:error|failed)|"
    r"\b(?:asset|network|scheme|token|mint|account|recipient|payee|version|spender|authority|"
    r"witness) (?:is )?not (?!found|available|ready|yet|known|respond|reach|updated|credited|charged|paid|"
    r"refunded|notified|funded|created|changed|verified)\w",
    r"\b(?:want|expected|must be|should be) (?:exactly )?\d{1,6} (?:bytes?|hex|char|items?|elements?|"
    r"decimals)|\bis not an? (?:address|integer|number|string|valid)\b",
    r"\b(?:schema|request|payload|body|format|parameter) validation (?:failed|failure|error)\b|"
    r"\bvalidation ?error\b|\bfailed (?:schema |request )?validation\b",
    payload=True,
)

CHECK = text_rule(
    "check",
    Sign.REFUSED,
    r"\b(?:invalid|malformed|unrecogni[sz]ed|incomplete|incorrect|disallowed|undecodable|unparseable|"
    r"unreadable|illegal|inconsistent|mismatch(?:ed|es)?|missing)\b|"
    r"\bun(?:configured|registered|authori[sz]ed|trusted|signed|set|acceptable|approved|listed)\b|"
    r"\b(?:disabled|inactive|revoked|banned|suspended|restricted|prohibited|forbidden)\b",
    rf"{_REASON}(?:zero|negative|empty|bad|wrong|expired|insufficient) {_WORD}(?: {_WORD}){{0,2}}(?= ?\||$)",
    r"\bmust(?: not)? (?:be|have|match|equal|contain|include|start|end|use|specify|provide|exceed|pay|sign|"
    r"target|reference|support)\b| (?:!==?|<=?|>=?) |\bout of (?:range|bounds)\b",
    r"\b(?:want|expected|expects|required|requires|needs?)\b[^|]{1,80}\b(?:got|found|received|but|actual|"
    r"have|has)\b|\b(?:got|found|received|has|have)\b[^|]{1,80}\b(?:want|expected|required|needs?)\b",
    r"\bnot (?:bound to|enabled|allowed|permitted|accepted|acceptable|recogni[sz]ed|registered|configured|"
    r"eligible|implemented|trusted|whitelisted|allow ?listed|owned|sufficient|enough|covered|specified|"
    r"provided|supplied|valid|an?)\b|\bis not (?:the|in|on|one of|part of|among)\b",
    r"\b(?:does not|do not|did not|doesn t|don t|didn t) (?:match|contain|include|support|allow|accept|"
    r"satisfy|meet|recover|equal|correspond|belong|cover|specify|provide|start|agree)\b",
    r"\bcan(?:not| t|not) be (?:empty|zero|null|blank|the same|negative|parsed|decoded|greater|less|more)\b|"
    r"\btoo (?:low|high|small|large|big|short|long|many|few|old|far)\b|"
    r"\b(?:exceeds|outside|at least|at most|less than|greater than|more than|longer than|shorter than|"
    r"equals|same as|identical to)\b|\bonly\b[^|]{1,40}\b(?:supported|accepted|allowed)\b",
    r"(?:^|\| |: )no (?:\w{1,16} ){0,3}(?:provided|supplied|specified|given|requirements?|payload|header|"
    r"signatures?|signers?|authorization|instructions?|key|permit|recipient|scheme|payer|payee|"
    r"authori[sz]er)\b|"
    r"\bno (?:\w{1,16} ){0,2}(?:facilitator|handler|scheme|mechanism|network|adapter) (?:supports?|accepts?|"
    r"handles?|matches)\b",
    r"(?<!settlement )(?<!settle )\b(?:verification|validation) failed ?: ?\w|"
    r"\bvalidation (?:failed|error)\b",
    payload=True,
)
"""A check that says what it found, of whatever it is. Who only throws may throw at any step: so it counts
in an answer that was given, not in the place of one (5xx), nor behind "settlement failed:"."""

FAMILY = re.compile(_PREFIX + r"(?=\w)")
"""The beginning that every reason of a scheme has, whatever it says: no word of refusal."""

FAMILY_REFUSAL = text_rule(
    "general",
    Sign.REFUSED,
    rf"{_PREFIX}(?:{_WORD} ){{0,3}}(?:{_PART}|expired|unsigned|missing {_WORD}|count|identifier|commitment|"
    rf"type|length|program|instructions?|decode failed|too far|{_WORD} missing|{_ENDING})(?= ?\||:|$)|"
    rf"{_SCHEME}(?:payload|request) (?![^|]*\b(?:not|error|failed|failure|unknown|lookup|check|"
    rf"ready)\b){_WORD}(?: {_WORD}){{0,7}}(?= ?\||$)",
    payload=True,
)
"""A reason of a scheme that names the part of the payload that is wrong."""

WRAPPING = re.compile(
    r"(?:^|(?<=\| )|(?<=: ))(?:x402 |facilitator |failed to )?(?:payment )?(?:settle(?:ment)?|"
    r"verif(?:y|ication))(?: request)?(?: payment)?(?: (?:failed|rejected|error))?(?: \(4\d\d\))?(?=:| \||$)"
)
"""What an API puts before its reason: by itself it says nothing of a later step."""

NAMES = any_of(
    r"\b(?:before|for|cannot|refus\w{0,3} to) (?:settlement|settling|settle)\b|"
    r"\b(?:payment |payload |signature |request )?(?:verification|validation) failed ?:|"
    r"\b(?:partially signed|serialized|unsigned|versioned|legacy) transaction\b|"
    r"\b(?:input|output|witness|certificate|instruction|signer) count\b|\boutput feature\b|"
    r"\bauxiliary data\b|"
    r"\btransaction (?=(?:is )?(?:too large|unsigned)\b|(?:base64|cbor|xdr|bcs|hex|shape) invalid\b)|"
    r"\btransaction (?=must |json\b|blob\b|hex\b|kind\b|message\b|fee payer\b|sender\b)|"
    r"\bno (?:\w{1,16} ){0,3}(?:instructions?|signatures?|signers?) (?:found )?in (?:the )?transaction\b|"
    r"\btransfer ?checked\b|\b(?:malformed|missing|empty) nonce\b|\btime (?:window|range)\b|\bincomplete\b|"
    r"\b(?:settlement|settle|verify|verification|transfer|deposit|escrow|refund|capture|"
    r"batch) ?(?=(?:authorization|permit|signature|header|requirements?|scheme|router|token|asset|currency|"
    r"wallet|contract|network|mode|method|option|payload|request|config(?:uration)?|key|signer|policy|"
    r"address|field|extra|domain|schema)\b)|\bmissing data for required\b|\binvalid type: (?=expected )|"
    r"\b(?:expiration|until) ledger\b|\b(?:one|single|\d) operations?\b|"
    r"\boperation (?=type\b|source\b|count\b)|\bcall data\b|\btx ?(?:hex|blob|bytes|xdr)\b|"
    r"\binvalid input\b(?! (?:value|syntax))|\binput (?=validation\b|must\b|should\b)|"
    r"\b(?:payload|requirements|resource|body|request|terms|details) hash\b|\bbe null\b|"
    r"\b(?:invalid|unsupported|unknown|wrong|for|target|source|different) chain\b|"
    r"(?<!on )(?<!in )(?<!the )(?<!from )(?<!by )\bchain (?:[\w:]{1,24} )?(?=is not |not supported|mismatch|"
    r"disabled|unsupported)|"
    r"(?:, |, but |\bbut |\()(?:received|got) (?:undefined|null|nan|string|number|object|array|boolean|"
    r"bigint)\b|(?:, |\bbut |\()received\b|\bnonce:? \(?(?=expected (?:bytes ?32|hex|0x|32)|encoding/)"
)
"""What a request calls its own parts, in words that elsewhere mean a later step."""

LATER = re.compile(
    r"\b(?:"
    # a transaction and what becomes of it
    r"trans ?act(?!ion (?:decode failed|payload|version|(?:wire )?format|encoding|structure|bytes|field|"
    r"schema|carries no|contains no|call ?data)\b)|txn?s?\b|tx|block(?:s|hash)?\b|"
    r"chain\b(?! ?ids?\b| mismatch| (?:is )?not supported)|on ?chain|sen[dt]\b|sending\b|"
    r"relay(?:ed|ing|s)?\b|pools?\b|events?\b|logs?\b|hash\b|land|min(?:ed|ing)\b|slot\b|ops?\b|operation|"
    r"claim|received?\b|paid\b|mint(?:ed|ing)\b|burn|swap|bridg|escrow|deposit|withdraw|deploy|reserv|"
    r"hold(?:ing|s)?\b|state\b|root\b|seq\w*|epoch\b|jump\b|stack\b|"
    r"(?:error processing|for|generic|invalid|by|of|max) instruction|"
    r"instruction (?:error|data|requires|illegally|spent|modified|changed|contains duplicate|tries|expected|"
    r"trace|failed)|seeds?\b|executable\b|provided owner\b|incorrect authority\b|te[cfmlrs]\b|"
    r"certificate (?!format)|x509\b|program\b|account (?:data|owner|keys?)\b|rent\b|"
    # an earlier attempt, and the passing of time
    r"retr[yi]|used\b|reus|spent\b|"
    r"nonce\b(?!/| (?:format|encoding|length|must be (?:an? |0x|32|hex|valid)|field|size|"
    r"is (?:required|missing)|required|missing))|during\b|while\b|once\b|since\b|still\b|"
    r"time(?!stamps?\b|out seconds\b)|slow\b|late\b|exhaust|abort|cancel|lock(?:ed|s)?\b|busy\b|stuck\b|"
    r"lost\b|wait|poll|(?:request|token|lease|session|key) (?:has |is )?expired|"
    # somebody else's answer: a node, a server behind, a database
    r"nodes?\b|server\b(?! (?:does not|doesn t) support)|status\b|reply\b|answer|output|process|"
    r"unavailable\b|fallback|attest|index|sync|call\b|simulat|estimat|commit|stor(?:e|age)\b|persist|"
    r"record(?:ed|ing)?\b|written\b|saved?\b|column\b|violat|table\b|query\b|sql|unique\b|row\b|syntax\b|"
    r"document\b|path\b|cast\b|param(?:eter)?s\b|arguments?\b|inputs?\b|utxos?\b|unspent\b|depth\b|confs?\b|"
    r"forks?\b|"
    # a crash, or a parser that says nothing of whose text it read
    r"character\b|line \d|in json\b|end of\b|invalid (?:type|value|length): |undefined\b|null\b|"
    r"none ?type\b|reading\b|defined\b|object has\b|memory\b|divide|crash|invocation\b|object of\b|"
    r"project\b|proxy\b|gateway\b|digest\b|effects?|invalid (?:url|date)\b|balance\b|closed\b|review|manual|"
    r"insufficient fees?\b|bandwid?th|energy\b|resource insufficient)|"
    # the same, in whatever word they stand
    r"receipt|confirm|block ?chain|"
    r"settl(?!er\b|ement[. ]?(?:router|mode|method|scheme|address|accepts|exceeds|type|currency|option|"
    r"overrides?)\b|e(?:ment)? (?:request(?: body)?|body|payload|endpoint|input) (?:is |was )?(?:invalid|"
    r"malformed|missing|rejected|must|requires?|empty|validation|schema)\b)|execut|broadcast|submi|"
    r"(?<!asset )(?<!minimum )(?<!maximum )(?<!min )(?<!max )transfer(?! method| type| factory|"
    r" with authorization)|publish|dispatch|mempool|pending|(?<!payload )gas\b|revert|finali|ledger|bundle|"
    r"complet|captur|deliver|credited|debited|refund|sequence|checkpoint|height|opcode|bytecode|"
    r"initiali[sz]|attempt|already|replay|duplicat|conflict|progress|queue|(?<!valid )\bafter\b|await|"
    r"https?:|connect|internal|unexpected|response|results?\b|callback|webhook|upstream|rollback|database|"
    r"constraint|prisma|redis|"
    r"(?<!typed )(?<!memo )(?<!payment )(?<!request )(?<!authorization )(?<!signature )\bdata\b|unmarshal|"
    r"looking for|not a function|not iterable|operand|subscriptable|attribute|"
    r"unknown (?:error|reason|failure)|went wrong|unspecified"
)
"""Words of a step that comes later, of a lost answer or of a crash: no general refusal beside them."""

PARSED = re.compile(
    r"\b((?:invalid|malformed|bad|(?:failed|unable|could not|couldn t|cannot|error) (?:to )?(?:pars|decod|"
    r"unmarshal|deseriali[sz]|read|bind)\w{0,4}) (?:the |your )?(?:\w{1,16} ){0,2}(?:payload|body|header|"
    r"requirements?|authorization|signature|nonce|amount|value|address|json|base64|"
    r"tx hex|hex transaction)s?(?: (?:format|encoding))?) ?[:|] ?(?:json: |"
    r"encoding/\w{3,6}: )?(?:unexpected (?:end of (?:json )?(?:input|data)|eof|token)|eof\b|expecting |"
    r"extra data|invalid character|invalid (?:byte|symbol|length|last symbol)|illegal base64|odd length|"
    r"odd number of digits|incorrect padding|cannot unmarshal)(?![^|]*\b(?:receipt|node|response|chain|"
    r"while|from|rpc|server|transaction)\b)[^|]{0,100}"
)
"""A request that a parser refused, and the parser's own words: of other texts they would say nothing."""

FAILED_READ = any_of(
    r"\b(?:lookup|fetch|query|read|rpc) (?:failed|error)\b|"
    r"\b(?:failed|unable) to (?:fetch|query|read|look ?up|reach|load|connect|get|retrieve)\b|"
    r"\binternal (?:server )?error\b"
)
"""On /verify: the facilitator could not find out, so it may know later."""

LOADED = any_of(
    r"\brate ?limit|\btoo many requests\b|\bhttp error 429\b|"
    r"\brequest (?:count|limit|rate) (?:exceeded|reached)\b|"
    r"\bover(?:loaded| capacity)\b|\bbusy\b|\bthrottl|\bquota\b|\bunavailable\b|\berror sending request\b|"
    r"\bcould not (?:connect|reach)\b|\bserver returned an error response\b"
)
"""On /verify: whoever says this was not able to check, now."""

WAITED_FOR = any_of(
    r"\bnot (?:yet )?(?:mined|confirmed|finali[sz]ed|indexed)(?: yet)?\b|"
    r"\bwaiting for (?:\w{1,12} )?confirmations?\b|\b(?:insufficient|not enough|too few) confirmations\b"
)
"""On /verify: what was already sent counts later."""

REFUSING = any_of(
    r"\b(?:not?|never|only|too|must|below|above|under|over|exceeds?|unknown|declined|denied|refused|"
    r"rejected|blocked|banned|unexpected|extra|differs?|insufficient|invalid|missing|expired|wrong|bad|"
    r"mismatch(?:ed)?|unsupported|disallowed|forbidden|required|requires|lacks|without|inactive|disabled|"
    r"frozen|exceeded|sanctioned|malformed|empty|zero|negative|different|incorrect|conflict)\b|n t\b"
)
"""On /verify: words that refuse; without one a reason nobody has listed is for the policy to judge."""

NO_REASON = re.compile(
    r"error|fail|exception|internal|unexpected|unavailable|unknown(?! (?:\w{1,12} ){1,2}instruction)|time|"
    r"busy|retry|try again|connect|fetch|\brpc\b|\bnodes?\b|https?:|request\b|server|upstream|undefined|"
    r"per second|capacity|your (?:app|project)\b|null\b|crash|panic|unable|could not|cannot|something|"
    r"went wrong|oops|other\b|\bnone\b|n/a"
)
"""Words of a report about the one who checks, or of none: no reason to refuse the payment."""
