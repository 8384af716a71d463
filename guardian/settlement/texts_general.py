"""The last rule about a text: validation language where nothing speaks of a later step. Pure data.

The rules of `texts_refused.py` name what is refused word by word. This one takes any part of a request
with any word of validation, so it must not stand where a word of the text may belong to a transaction,
a lost answer or a crash: `LATER` lists those, and one of them anywhere leaves the text in doubt.
"""

import re

from guardian.settlement.texts_rule import Sign, text_rule

_PART = (
    r"(?:(?:payment ?)?(?:request|payload|requirements?)|req|body|(?:payment )?header|fields?|parameter|"
    r"propert(?:y|ies)|schema|json|base64|encoding|format|envelope|networks?|chain ?ids?|caip ?2?|scheme|"
    r"kind|"
    r"asset|tokens?|mint|currency|coin|decimals|amount|value|price|quantity|fee payer|signature|signer|sig|"
    r"authori[sz]ation|permit ?2?|delegation|voucher|domain|versions?|address(?:es)?|recipient|receiver|"
    r"destination|pay ?to|payee|payer|sender|spender|owner|buyer|customer|merchant|seller|vendor|resource|"
    r"description|mime ?type|memo|extra|extensions?|deadline|expiry|expiration|valid (?:after|before|until|"
    r"from|to)|validity|timestamp|proof|allowance|(?:pre)?approval|trust ?line|wallet|accounts?|witness|"
    r"facilitator|instrument|transfer method|public key|pubkey|credentials?|quote|invoice|salt|policy|"
    r"session|spending cap|cap|x402|protocol version|"
    r"challenge|mandate|delegat\w{2,4}|fingerprint|private key)"
)
_BEFORE = (
    r"(?:invalid|malformed|missing|unsupported|unrecogni[sz]ed|wrong|incorrect|bad|empty|illegal|disallowed|"
    r"oversized|overlong|unacceptable|unreasonable|excessive|inadequate|mismatched|unknown(?= (?:field|"
    r"param|propert|kind|extension|"
    r"merchant|token|asset|mint|currency|invoice))|expired|insufficient|(?:failed|failure|unable|could not|"
    r"couldn t|cannot|can t|error) (?:to )?"
    r"(?:pars|decod|validat|deseriali[sz])\w{1,4}|must (?:provide|include|specify|contain|have|supply)|"
    r"requires?|expected)"
)
_AFTER = (
    r"(?:invalid|malformed|missing|required|unsupported|not supported|mismatch(?:ed|es)?|(?:does not|doesn t|"
    r"did not|do not|not) match\w{0,3}|must|cannot be|can t be|should (?:be|have|not)|needs? to be|"
    r"expected|not (?:allowed|permitted|accepted|acceptable|recogni[sz]ed|registered|enabled|approved|"
    r"authori[sz]ed|eligible|configured|provided|specified|set|a|an|valid|equal|correct|well formed)|"
    r"disallowed|forbidden|prohibited|too (?:low|high|small|large|short|long|big|old|many|soon|few)|"
    r"is not (?:\d|one of)|expired|expiring|expires|disabled|wrong|incorrect|empty|insufficient|below|"
    r"less than|greater than|"
    r"exceeds?|out of (?:range|bounds)|negative|non ?positive|zero|differs?|different|unparseable|"
    r"undecodable)"
)
_NETWORK = (
    r"evm|svm|tvm|avm|ton|tron|near|sui|aptos|stellar|solana|hedera|xrpl?|canton|cardano|algorand|stacks|"
    r"casper|kaspa|starknet|fuel|eip155|concordium"
)
_FAMILY = rf"(?:exact|upto|batch|deferred|{_NETWORK})\b"
_PREFIX = r"\binvalid (?:exact|upto|batch settlement|deferred) \w{2,12} (?:(?:payload|requirements) )?"
_WORD = r"\w{1,24}"
_ENDING = (
    r"(?:invalid|mismatch|malformed|required|unsupported|insufficient|not (?:supported|allowed|accepted|"
    r"permitted|"
    r"registered|approved|enabled|configured|valid|eligible)|disabled|too (?:low|high|small|large|"
    r"short|long|old)|below minimum|above maximum|out of range|exceeds (?:limit|max|maximum|cap))"
)
_REASON = r"(?:^|\| )(?:err(?:or)? )?"

GENERAL = text_rule(
    "general",
    Sign.REFUSED,
    rf"\b{_BEFORE}\b[^|]{{0,40}}\b{_PART}s?\b",
    rf"\b{_PART}\b[^|]{{0,60}}(?:(?<!\w){_AFTER}(?!\w)|!==?)",
    r"\b(?:exceeds?|over|above) (?:the )?(?:\w{1,16} ){0,3}(?:limit|maximum|cap)\b|"
    r"\bis (?:\w{1,12} ){1,4}only\b|"
    r"\bonly (?:supports?|accepts?|allows?)\b|\b(?:supports?|accepts?) (?:\w{1,12} ){0,4}only\b",
    r"\bmust be (?:an? |0x|\d|hex|base64|in |one of |either |exactly |equal |greater |less |positive|non|"
    r"at least |at most |between |"
    r"provided|specified|included|verified|signed|set\b)|\bis (?:the )?zero address\b",
    # A reason of one token names what is wrong at its beginning or at its end.
    rf"{_REASON}(?:invalid|missing|unsupported|malformed|wrong|unrecogni[sz]ed|disallowed|unreasonable|"
    rf"insufficient) "
    rf"(?!{_FAMILY}|gas\b|fee)"
    rf"{_WORD}(?: {_WORD}){{0,2}}(?= ?\||$)",
    rf"{_REASON}(?!payment (?:required|mismatch|invalid)\b|balance |"
    rf"settlement ){_WORD}(?: {_WORD}){{0,7}} {_ENDING}(?= ?\||$)",
    # Whatever it is that is refused.
    r"\b(?:does not|doesn t) support (?:x402|the (?:scheme|network|asset|token|version))|"
    r"\bno (?:\w{1,12} ){0,2}(?:auth(?:ori[sz]ation)?|credentials?) (?:entries|entry|provided|supplied)\b|"
    r"\bauth(?:ori[sz]ation)? entries missing\b",
    r"\b(?:is|are) required\b|\b(?:not supported|unsupported)\b|\b(?:not|n t|"
    r"t) match (?:the )?(?:payment )?(?:requirement|"
    r"request|quote|accepted|config|expected)|\bno (?:matching|suitable|compatible|acceptable)\b|"
    r"\binsufficient payment\b|\bunable to find matching\b",
    r"\b(?:base64|hex|cbor|bcs|xdr|rlp|payload|header) (?:decod\w{1,3}|pars\w{1,3}|deseriali[sz]ation|"
    r"encoding) (?:error|failed)|"
    r"\b(?:asset|network|scheme|token|mint|account|recipient|payee|version|spender|authority|"
    r"witness) (?:is )?"
    r"not (?!found|available|"
    r"ready|yet|known|respond|reach|updated|credited|charged|paid|refunded|notified|funded|created|"
    r"changed|verified)\w",
    r"\b(?:want|expected|must be|should be) (?:exactly )?\d{1,6} (?:bytes?|hex|char|items?|elements?|"
    r"decimals)|"
    r"\bis not an? (?:address|integer|number|string|valid)\b",
    r"\b(?:schema|request|payload|body|format|parameter) validation (?:failed|failure|error)\b|"
    r"\bvalidation ?error\b|\bfailed (?:schema |request )?validation\b",
    payload=True,
)

FAMILY = re.compile(_PREFIX + r"(?=\w)")
"""The beginning that every reason of a scheme has, whatever it says: no word of refusal."""

FAMILY_REFUSAL = text_rule(
    "general",
    Sign.REFUSED,
    rf"{_PREFIX}(?:{_WORD} ){{0,3}}(?:{_PART}|expired|unsigned|missing {_WORD}|count|identifier|commitment|"
    rf"type|"
    rf"length|program|instructions?|decode failed|too far|{_WORD} missing|{_ENDING})(?= ?\||:|$)",
    payload=True,
)
"""A reason of a scheme that names the part of the payload that is wrong."""

WRAPPING = re.compile(
    r"(?:^|(?<=\| )|(?<=: ))(?:x402 |facilitator |failed to )?(?:payment )?(?:settle(?:ment)?|verif(?:y|"
    r"ication))"
    r"(?: request)?(?: payment)?(?: (?:failed|rejected|error))?(?: \(4\d\d\))?(?=:| \||$)|"
    r"\bbefore (?:settlement|settling|settle)\b"
)
"""What an API puts before its reason: by itself it says nothing of a later step."""

LATER = re.compile(
    # a transaction and what becomes of it
    r"\btrans ?act(?!ion (?:decode failed|payload|version|(?:wire )?format|encoding|structure|bytes|"
    r"field|schema|carries no|"
    r"contains no|call ?data)\b)|\btxn?s?\b|\btx|receipt|confirm|\bblock(?:s|hash)?\b|block ?chain|"
    r"\bchain\b(?! ?ids?\b| mismatch| (?:is )?not supported)|\bon ?chain|"
    r"settl(?!ement[. ](?:router|mode|method|scheme|address|accepts|exceeds|type|currency|option|"
    r"overrides?)\b|"
    r"e(?:ment)? (?:request(?: body)?|body|payload|endpoint|input) (?:is |was )?(?:invalid|malformed|missing|"
    r"rejected|must|requires?|empty|validation|schema)\b)|execut|broadcast|submi|"
    r"(?<!asset )(?<!minimum )(?<!maximum )(?<!min )(?<!max )transfer(?! method| type| factory|"
    r" with authorization)|\bsen[dt]\b|\bsending\b|"
    r"\brelay(?:ed|ing|s)?\b|publish|dispatch|\bpools?\b|mempool|pending|\bevents?\b|\blogs?\b|\bhash\b|"
    r"(?<!payload )\bgas\b|revert|\bland|\bmin(?:ed|ing)\b|finali|\bslot\b|ledger|\bops?\b|\boperation|"
    r"bundle|\bclaim|"
    r"complet|captur|deliver|\breceived?\b|credited|debited|refund|\bpaid\b|\bmint(?:ed|ing)\b|\bburn|\bswap|"
    r"\bbridg|\bescrow|\bdeposit|\bwithdraw|\bdeploy|\breserv|\bhold(?:ing|s)?\b|"
    r"\bstate\b|\broot\b|sequence|\bseq\w*|checkpoint|\bepoch\b|height|opcode|\bjump\b|\bstack\b|bytecode|"
    r"\binstruction|\bprogram\b|\baccount (?:data|owner|keys?)\b|\brent\b|initiali[sz]|"
    # an earlier attempt, and the passing of time
    r"attempt|\bretr[yi]|already|\bused\b|\breus|\bspent\b|replay|duplicat|conflict|"
    r"\bnonce\b(?!/| (?:format|length|must be (?:an? |0x|32|hex|valid)|field|size|is (?:required|missing)|"
    r"required|missing))|"
    r"progress|queue|(?<!valid )\bafter\b|\bduring\b|\bwhile\b|\bonce\b|\bsince\b|\bstill\b|"
    r"\btime(?!stamps?\b|out seconds\b)|"
    r"\bslow\b|\blate\b|\bexhaust|\babort|\bcancel|\block(?:ed|s)?\b|\bbusy\b|\bstuck\b|\blost\b|\bwait|"
    r"await|"
    r"\bpoll|\b(?:request|token|lease|session|key) (?:has |is )?expired|"
    # somebody else's answer: a node, a server behind, a database
    r"\bnodes?\b|https?:|connect|internal|\bserver\b(?! (?:does not|doesn t) support)|unexpected|"
    r"\bstatus\b|response|results?\b|\breply\b|"
    r"\banswer|\boutput|callback|webhook|upstream|\bprocess|\bunavailable\b|\bfallback|\battest|\bindex|"
    r"\bsync|"
    r"\bcall\b|\bsimulat|\bestimat|\bcommit|rollback|database|\bstor(?:e|age)\b|\bpersist|\brecorded?\b|"
    r"\bwritten\b|\bsaved?\b|\bcolumn\b|constraint|\bviolat|\btable\b|\bquery\b|prisma|\bsql|redis|"
    r"\bunique\b|"
    r"\brow\b|\bsyntax\b|\bdocument\b|\bpath\b|\bcast\b|\bparam(?:eter)?s\b|\barguments?\b|\binput\b|"
    r"(?<!typed )(?<!memo )(?<!payment )(?<!request )(?<!authorization )(?<!signature )\bdata\b|"
    # a crash, or a parser that says nothing of whose text it read
    r"unmarshal|\bcharacter\b|looking for|\bline \d|\bin json\b|\bend of\b|\binvalid (?:type|value|length): |"
    r"not a function|not iterable|\bundefined\b|\bnull\b|\bnone ?type\b|\breading\b|\bdefined\b|operand|"
    r"\bobject has\b|subscriptable|attribute|\bmemory\b|\bdivide|\bcrash|\binvocation\b|\bobject of\b|"
    r"unknown (?:error|reason|failure)|went wrong|unspecified|\bproject\b|\bproxy\b|\bgateway\b|"
    r"\bdigest\b|\beffects?|\binvalid (?:url|date)\b|\bbalance\b|\bclosed\b|"
    r"\breview|\bmanual"
)
"""Words of a step that comes later, of a lost answer or of a crash: no general refusal beside them."""

FAILED_READ = re.compile(
    r"\b(?:lookup|fetch|query|read|rpc) (?:failed|error)\b|\b(?:failed|unable) to (?:fetch|query|read|"
    r"look ?up|"
    r"reach|load|connect|get|retrieve)\b|\binternal (?:server )?error\b"
)
"""On /verify: the facilitator could not find out, so it may know later."""
