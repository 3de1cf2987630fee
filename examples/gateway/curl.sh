#!/bin/sh
# The same agent by hand (needs jq), episode and outcome told outright: sh curl.sh [http://127.0.0.1:8000]
set -eu
gateway=${1:-http://127.0.0.1:8000}
episode="curl-$$-$(date +%s)"
key="authorization: Bearer ${OPENAI_API_KEY:-none}"
tools='[{"type": "function", "function": {"name": "temperature", "description": "Degrees Celsius in a city now.",
  "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}]'
messages='[{"role": "user", "content": "Which is warmer now, Oslo or Rome?"}]'

while :; do
    message=$(jq -n --argjson messages "$messages" --argjson tools "$tools" '{model: "gpt-6.1-sol"} + $ARGS.named' |
        curl -sS --fail-with-body "$gateway/v1/chat/completions" -H "content-type: application/json" -H "$key" \
            -H "x-potstill-episode: $episode" -H "x-potstill-goal: Find the warmer city" --data-binary @- |
        jq -c '.choices[0].message')
    [ "$(printf '%s' "$message" | jq '.tool_calls | length')" -gt 0 ] || break
    results=$(printf '%s' "$message" | jq -c '{Oslo: 7, Rome: 18} as $degrees | [.tool_calls[] |
      (.function.arguments | fromjson | .city) as $city |
      {role: "tool", tool_call_id: .id, content: "\($city): \($degrees[$city] // "unknown")"}]')
    messages=$(jq -nc --argjson m "$messages" --argjson a "$message" --argjson r "$results" '$m + [$a] + $r')
done
printf '%s' "$message" | jq -r .content
curl -sS --fail-with-body -o /dev/null "$gateway/v1/episodes/$episode/outcome" -H "content-type: application/json" \
    -H "$key" -d '{"success": true}'
