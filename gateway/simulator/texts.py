"""The upstream's error codes with their HTTP status and words (glm-image-api.md section 3); knows no HTTP."""
# ruff: noqa: RUF001 - these are the upstream's own words, full-width punctuation included

from typing import NamedTuple


class Entry(NamedTuple):
    """One row of the table; `{field}`-like places are filled in when it is sent."""

    status: int
    zh: str
    en: str


# Rows that the reference marks "?" or [INF] carry a status that was chosen here, and so do words it does not print.
TABLE = {
    "500": Entry(500, "内部错误", "Internal error"),
    "401": Entry(401, "令牌已过期或验证不正确", "token expired or incorrect"),
    "1000": Entry(401, "身份验证失败。", "Authentication failed."),
    "1001": Entry(
        401,
        "Header 中未收到 Authentication 参数，无法进行身份验证",
        "Authentication parameter not received in Header, unable to authenticate",
    ),
    "1002": Entry(
        401, "Authentication Token 非法，请确认 Authentication Token 正确传递。", "Invalid Authentication Token."
    ),
    "1003": Entry(
        401, "Authentication Token 已过期，请重新生成/获取", "Authentication Token expired, please regenerate it"
    ),
    "1004": Entry(401, "通过提供的 Authentication Token 的验证失败", "Authentication Token verification failed"),
    "1005": Entry(401, "需要二次验证。", "A second authentication is required."),
    "1100": Entry(500, "账户读写", "Account read/write error"),
    "1110": Entry(429, "您的账户当前处于非活动状态，请检查账户信息", "Your account is inactive"),
    "1111": Entry(429, "您的账户不存在", "Your account does not exist"),
    "1112": Entry(429, "您的账户已被锁定，请联系客服解锁", "Your account is locked, please contact support"),
    "1113": Entry(
        429,
        "余额不足或无可用资源包,请充值。",
        "Insufficient balance or no resource package. Please recharge.",
    ),
    "1120": Entry(500, "无法成功访问您的账户，请稍后重试", "Your account cannot be accessed, please try again later"),
    "1121": Entry(429, "您的账户因违规行为已被锁定", "Your account is locked for a violation"),
    "1200": Entry(500, "API 调用失败。", "API call failed."),
    "1210": Entry(400, "API 调用参数有误，请检查文档。", "Invalid API parameter, please check the documentation."),
    "1211": Entry(400, "模型不存在，请检查模型代码。", "Unknown Model, please check the model code."),
    "1212": Entry(400, "当前模型不支持该调用方式。", "The model does not support this call method."),
    "1213": Entry(400, "未正常接收到{field}参数。", "The {field} parameter was not received properly."),
    "1214": Entry(400, "{field} 参数非法。请检查文档。", "{field} is invalid. Please check the documentation."),
    "1215": Entry(
        400, "{field} 不能同时设置，请检查文档。", "{field} cannot be set together, please check the documentation."
    ),
    "1220": Entry(403, "您无权访问{model}。", "You do not have permission to access {model}."),
    "1221": Entry(400, "API 已下线。", "The API has been taken offline."),
    "1222": Entry(400, "API 不存在。", "The API does not exist."),
    "1230": Entry(500, "API 调用流程出错。", "API call flow error."),
    "1231": Entry(400, "您已有请求：{request_id}", "You already have a request: {request_id}"),
    "1234": Entry(
        500,
        "网络错误，错误id：{request_id}，请联系客服。",
        "Network error, error id: {request_id}, please contact customer service.",
    ),
    "1261": Entry(400, "Prompt 超长", "Prompt exceeds max length"),
    "1300": Entry(400, "API 调用被策略阻止。", "The API call was blocked by policy."),
    "1301": Entry(
        400,
        "系统检测到输入或生成内容可能包含不安全或敏感内容，请您避免输入易产生敏感内容的提示语，感谢您的配合。",
        "The system has detected that the input or generated content may contain unsafe or sensitive content. "
        "Please avoid prompts that may produce sensitive content. Thank you for your cooperation.",
    ),
    "1302": Entry(429, "您的账户已达到速率限制，请您控制请求频率", "Rate limit reached for requests"),
    "1303": Entry(429, "当前 API 的请求频率过高，请降低频率", "The request frequency of this API is too high"),
    "1304": Entry(429, "该 API 已达今日调用次数限额", "The daily call limit of this API has been reached"),
    "1305": Entry(
        429,
        "该模型当前访问量过大，请您稍后再试",
        "The service may be temporarily overloaded, please try again later",
    ),
    "1308": Entry(
        429,
        "已达到使用上限。您的限额将在 {next_flush_time} 重置。",
        "Usage limit reached. Your limit will reset at {next_flush_time}",
    ),
    "1309": Entry(429, "您的套餐已到期，请续订。", "Your plan has expired, please renew."),
    "1310": Entry(
        429,
        "已达到每周/每月使用上限。您的限额将在 {next_flush_time} 重置。",
        "Weekly/Monthly limit exhausted. Your limit will reset at {next_flush_time}",
    ),
    "1311": Entry(429, "您的套餐不包含{model}。", "Your plan does not include {model}."),
    "1312": Entry(429, "该模型当前访问量过大，请使用其他模型", "This model is overloaded, please use another model"),
    "1313": Entry(
        429, "您的账户因公平使用策略受限，请在控制台申请解除。", "Your account is restricted by the fair-use policy."
    ),
    "1314": Entry(429, "您的企业套餐已失效。", "Your enterprise plan is no longer valid."),
    "1315": Entry(429, "该密钥仅限企业编码套餐使用。", "This key is limited to the enterprise coding plan."),
    **{
        str(code): Entry(
            429,
            "已达到套餐使用上限。您的限额将在 {next_flush_time} 重置。",
            "Plan limit exhausted. Your limit will reset at {next_flush_time}",
        )
        for code in range(1316, 1322)
    },
}

# z.ai answers an unknown model so (section 3, row 1211).
MODEL_CODE = "modelCode: does not exist"
