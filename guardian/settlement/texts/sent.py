"""Texts that show, or may show, that something was sent: they beat everything else in a text. Pure data.

A pattern that is too wide here costs a look at the chain; one that is missing can cost a double payment.
"""

from guardian.settlement.texts.rule import Sign, text_rule

_TX = r"(?:transactions?|txn?s?|user ?ops?|user operations?|bundles?)"

SENT_RULES = (
    text_rule(
        "hash",
        Sign.SENT,
        r"\b(?:transactions?|txn?|user ?op|op) ?(?:hash|id)\b(?! (?:is )?(?:missing|required))",
        r"\bwith hash\b|\b(?:sent|submitted|sending|submitting) anyway\b",
        r"\bhash 0x",
        r"/tx/|\bexplorer\b|\b\w{2,12}scan\.\w{2,4}/",
    ),
    text_rule(
        "broadcast",
        Sign.SENT,
        r"broadcast",
        r"\bsend ?raw ?transaction\b",
        r"\b(?:re)?(?:send|sent|sending|submit|submits|submitted|submitting|submission|relay|relayed|"
        rf"relaying|publish|published|dispatch|dispatched)\b(?:(?!simulat).){{0,30}}\b{_TX}\b",
        rf"\b{_TX}\b(?:(?!simulat).){{0,30}}\b(?:sent|submitted|submission|relayed|published|dispatched|"
        r"accepted|included|processed|dropped|replaced|evicted|stuck|underpriced|not found|lost|unknown|"
        r"cancell?ed|expired)\b",
        r"\b(?:payment|settlement|transfer) (?:was |has been |is )?(?:already )?(?:sent|submitted|relayed|"
        r"processed|executed|completed)\b",
        r"\b(?:failed|unable|could not|cannot|error|was|been|successfully|already) (?:to )?(?:submit|"
        r"submitted|relay|relayed)\b",
    ),
    text_rule(
        "confirmation",
        Sign.SENT,
        r"\b(?:un)?confirm(?:s|ed|ations?|ing)?\b",
        r"\breceipts?\b|\bblock ?number:? ?\d|\bgas used\b",
        r"\b(?:un)?(?:mined|mining)\b",
        r"\bmem ?pool\b|\btx ?pool\b",
        r"\bpending\b(?! (?:nonce|state)\b)|\bin ?flight\b|\bin progress\b|\bstill processing\b",
        r"\b(?:un)?finali[sz]\w*\b|\binclusion\b|\breorg\w*\b|\borphaned\b",
        r"\bin (?:a |the )?block\b|\bblock height exceeded\b|\bblock ?hash (?:has )?expired\b",
        # Solana's answer to the question what became of a transaction.
        r"\btransaction version \(?\w{1,8}\)? is not supported\b|\bmax supported transaction version\b",
        r"\bnot in the chain\b|\bon ?chain (?:fail|revert|error|status|result|execution|transaction|tx)\w*",
        r"\b(?:fail|revert|execut|settl|land|us)\w* on ?chain\b|\blanded\b",
        # What is found out about a transfer is found out after it.
        r"\b(?:settle\w*|on ?chain) (?:verification|validation|check|transfer)\b|"
        r"\bafter (?:the )?(?:settle\w*|submission|submitting|sending|transfer|payment|permit)\b|"
        r"\btransfer amount mismatch\b|\btransferred\b|\bon ?chain (?:amount|value|recipient|payee)\b|"
        r"\b(?:amount|funds|value) (?:was |were )?(?:not )?(?:received|transferred|paid)\b|"
        r"\bmissing on ?chain\b|\b(?:credited|debited|charged|deducted|refunded)\b|"
        r"\b(?:payee|recipient|merchant) received\b|"
        r"\b(?:transfer|authorization ?used|settled) (?:event|log)s?\b",
    ),
    text_rule(
        "reverted",
        Sign.SENT,
        r"\b(?:transaction|txn?)(?: execution)?(?: has| was|"
        r" is)?(?: been)? revert(?:ed)?\b.{0,40}\b(?:block|gas used)\b",
        r"\bstatus:? ?(?:0x0|0|reverted)\b|\bout of gas\b",
        r"\baa(?:5\d|95)\b|\bpost ?op\b|\bhandle ?ops\b",
    ),
    text_rule(
        "already",
        Sign.SENT,
        r"\balready (?:been )?(?:being )?(?:known|imported|exists?|in|processed|settled|submitted|sent|"
        r"executed|used|redeemed|spent|consumed|claimed|paid|completed|seen|bound|recorded|collected|"
        r"captured|reserved|applied|registered|holds?|held|locked|under way|running)\b",
        r"\bused or cancell?ed\b|"
        r"\b(?:authorization|nonce|permit|signature|voucher)\b.{0,20}\b(?:is |was |"
        r"been )(?:already )?(?:used|consumed|spent|invalidated|cancell?ed)\b",
        r"\bnonce\b.{0,20}\b(?:too (?:low|high)|expired|reused|used|gap|mismatch|conflict)\b",
        r"\b(?:invalid|bad|conflicting|wrong|stale) ?(?:\w{1,12} ){0,2}nonce\b(?!:? \(?(?:length|format|"
        r"must|encoding|expected (?:bytes ?32|hex|0x|32)))",
        r"\breplay(?:ed)?\b(?! protect)|\bduplicated?\b|\bdouble.?spen\w+\b|\bsequence number\b|\bbad ?seq\b",
        r"\bunderpriced\b|\breplacement\b|\breplace (?:the )?(?:existing|pending)\b|\bfee too low\b",
    ),
    text_rule(
        "attempted",
        Sign.SENT,
        r"\b(?:attempt|retry|try) ?#?\d|\bafter \d+ (?:attempts?|retries|tries)\b|\bretrying\b|\bon retry\b|"
        r"^retry:",
        r"\b(?:first|second|third|last|final|previous|earlier|prior) attempt\b|"
        r"\bmax(?:imum)? (?:retries|attempts)\b",
        r"\bidempoten\w+\b",
        # a price that is asked for once more is that of the transaction which takes the first one's place
        r"\bbump(?:s|ed|ing)?\b|\bspe(?:ed|eds|eding|d) ?up\b|\bresubmi(?:ssion|tted|tting)\b|\bstuck\b",
        r"\b(?:executed|succeeded|settled|unsuccessful)\b|\bnot successful\b|"
        r"\b(?:settlement|payment|bundle) reverted\b",
        r"\bsent (?:the |a |your )?(?:payment|transfer|settlement)\b|"
        r"\b(?:submit|submission|send|sending|relay|publish) (?:has )?(?:failed|error|rejected)\b",
        r"\b(?:user ?ops?|user operations?) execution\b|\b(?:during|at|in|after) execution\b|"
        r"\b(?:tx|transaction) logs?\b|\bstate ?= ?[12]\b|"
        r"\bauthorization state (?:is )?(?:true|used|invalid)\b|\(used\)",
    ),
    text_rule(
        "doubt",
        Sign.SENT,
        r"\b(?:may|might|could) (?:already |still |yet )?(?:have|land|settle|succeed|complete|"
        r"be on ?chain)\b",
        r"\b(?:outcome|status|state|result|whether)\b.{0,20}\b(?:unknown|unclear|uncertain|ambiguous)\b",
        r"\bunknown (?:outcome|status|state|result)\b|\bunknown if\b|\bindeterminate\b|\bundetermined\b",
        r"\bdo not (?:retry|resubmit|resend|pay again)\b",
    ),
)

TIME_RULES = (
    text_rule(
        "timeout",
        Sign.TIME,
        r"(?<!max )(?<!payload )\btime(?:d|s)? ?outs?\b|\b(?:e|esocket|connect|read|write)timed ?out\b|"
        r"\btimedout\b|\betimeout\b",
        r"(?<!outside )\bexecution expired\b|\bexecution time\b|\btook too long\b|\btoo slow\b|\bgave up\b|"
        r"\bgiving up\b|\bin time\b|\bwithin \d+ ?(?:ms|s|sec|min)",
        r"\bdeadline ?(?:has |was |is )?(?:exceeded|elapsed|reached)\b|\bcontext deadline\b|"
        r"(?<!budget )(?<!budget is )(?<!tier )(?<!tier is )(?<!quota )(?<!quota is )(?<!pool )(?<!capacity "
        r")(?<!temporarily )(?<!quota has been )(?<!budget has been )(?<!credits )\bexhausted\b",
        r"\bcontext cancell?ed\b|"
        r"\b(?:request|operation|call|task|client|was|been) (?:was |been )?(?:cancell?ed|aborted)\b",
        r"\baborted\b|\babort(?: signal| error)\b|\binterrupted\b|\bshutting down\b|\bclosed request\b",
    ),
    text_rule(
        "connection",
        Sign.TIME,
        r"\beconn\w*|\bepipe\b|\benotfound\b|\behostunreach\b|\benetunreach\b|\beai again\b|\bund err\w*",
        r"\bend of file\b|\bempty reply\b|\bname resolution\b|\bnetwork is unreachable\b|"
        r"\bno route to host\b|\bhandshake\b|\bsocket\b|\bbroken pipe\b|\bhang up\b|\bunexpected eof\b|"
        r"\beof\b|\bpremature(?:ly)?\b|\bdisconnect\w*",
        r"\bconnection\b.{0,30}\b(?:reset|closed|aborted|lost|terminated|dropped|refused|failed|error|"
        r"broken)\b",
        r"\bremote end closed\b|\bother side closed\b|\bstream (?:closed|reset|error)\b|\bno response\b",
        r"\bfetch failed\b|\bfailed to fetch\b(?! (?:the )?(?:\w{1,8} )?(?:gas|fee|balance|nonce|chain))|"
        r"\bnetwork ?error\b|\bmissing response\b|\bmax retries exceeded\b",
        r"\b(?:facilitator|rpc|node|chain|upstream|verification|database|provider|"
        r"api)\b.{0,20}\b(?:unavailable|unreachable|offline|overloaded|not responding)\b|\berror 5\d\d\b",
        r"\bbad ?gateway\b|\bgateway ?time|\bservice ?(?:is |temporarily ){0,2}unavailable\b|"
        r"\binternal ?server ?error\b",
        r"\b(?:failed|failure|error|returned|status|code|http|response) ?\(5\d\d\)|"
        r"\b(?:status|code|http)(?: code)?:? ?5\d\d\b|\b5\d\d (?:server )?error\b",
        r"\b(?:invalid|unexpected|malformed|empty|could not parse|"
        r"failed to parse) (?:json )?(?:rpc )?response\b",
    ),
)

CATCH_ALL_RULES = (
    text_rule(
        "catch_all",
        Sign.CATCH_ALL,
        r"(?<!dry run )\b(?:transaction|txn?)(?: execution)?(?: has| was)? (?:failed|failure|reverted|"
        r"rejected|error)\b",
        r"\b(?:failed|reverted) (?:transaction|txn?)\b|\bcontract validate error\b|\bunexpected ?error\b|"
        r"\binternal ?error\b",
    ),
)
