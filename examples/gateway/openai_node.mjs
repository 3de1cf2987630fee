// The same agent on OpenAI's SDK for Node: npm install --no-save openai; OPENAI_BASE_URL=http://127.0.0.1:8000/v1
import OpenAI from "openai";

const DEGREES = { Oslo: 7, Rome: 18 };
const parameters = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [
  { type: "function", function: { name: "temperature", description: "Degrees Celsius in a city now.", parameters } },
];
const temperature = ({ city }) => `${city}: ${DEGREES[city] ?? "unknown"}`;

const client = new OpenAI();
const messages = [{ role: "user", content: "Which is warmer now, Oslo or Rome?" }];
for (let turn = 0; turn < 6; turn++) {
  const stream = client.chat.completions.stream({ model: "gpt-6.1-sol", messages, tools });
  stream.on("content", (text) => process.stdout.write(text));
  const message = await stream.finalMessage();
  messages.push(message);
  if (!message.tool_calls?.length) break;
  for (const call of message.tool_calls) {
    const content = temperature(JSON.parse(call.function.arguments));
    messages.push({ role: "tool", tool_call_id: call.id, content });
  }
}
console.log();
