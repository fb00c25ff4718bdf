"""How a simulated service behaves where an account, a platform or an undocumented choice decides."""

from dataclasses import dataclass
from typing import Literal

Language = Literal["zh", "en"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorOptions:
    """The switches of one simulator; section numbers are those of glm-image-api.md.

    Attributes:
        latency: Seconds a picture takes; the fault `slow` varies it.
        concurrency: Calls in flight per key id and model (section 4: per account and model); above it 1302.
        keys: Accepted `id.secret` keys; empty accepts every well-formed key and then cannot verify a JWT's signature.
        language: `zh` is bigmodel (texts, four models, 1211), `en` is z.ai (texts, two models, 1214 `modelCode`, and
            `watermark_enabled` ignored because z.ai's schema does not have it).
        bad_size: Whether an illegal size is refused with 1214 or silently becomes the model's default (section 7).
        smallest_side: The documents disagree on 512 and 1024 for a custom size of glm-image (section 7).
        long_prompt: What a prompt above 1000 code points gets: a code, or a picture (section 7).
        standard_quality: Whether `standard` on glm-image, which is hd only, is refused with 1214 or made as hd.
        unsigned_watermark: What `watermark_enabled: false` gets: a picture without a mark (the account has signed the
            disclaimer), a refusal with 1210, or a marked picture (section 8).
        url_style: `signed` as on bigmodel, or `attachment`: z.ai's unsigned links with a disposition (section 6).
        url_lifetime: Seconds a signed link lives; 7 days were seen (section 6).
    """

    latency: float = 20.0
    concurrency: int = 1
    keys: tuple[str, ...] = ()
    language: Language = "zh"
    bad_size: Literal["error", "fallback"] = "error"
    smallest_side: Literal[512, 1024] = 512
    long_prompt: Literal["1261", "1214", "accept"] = "1261"
    standard_quality: Literal["error", "hd"] = "error"
    unsigned_watermark: Literal["allow", "error", "ignore"] = "allow"
    url_style: Literal["signed", "attachment"] = "signed"
    url_lifetime: float = 604_800.0
