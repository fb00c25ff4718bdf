"""Makes one picture per prompt on standard input with zhipuai, configured by its environment; prints what came back."""

import json
import sys

from zhipuai import ZhipuAI

with ZhipuAI(max_retries=0) as client:
    pictures = [client.images.generations(model="glm-image", prompt=prompt) for prompt in json.load(sys.stdin)]
json.dump([picture.model_dump() for picture in pictures], sys.stdout)
