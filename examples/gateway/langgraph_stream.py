"""The same graph of langgraph, its answer printed as it comes."""

from langchain_core.messages import AIMessageChunk
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition

DEGREES = {"Oslo": 7, "Rome": 18}


@tool
def temperature(city: str) -> str:
    """Degrees Celsius in a city now."""
    return f"{city}: {DEGREES.get(city, 'unknown')}"


model = ChatOpenAI(model="gpt-6.1-sol").bind_tools([temperature])
graph = StateGraph(MessagesState)
graph.add_node("model", lambda state: {"messages": [model.invoke(state["messages"])]})
graph.add_node("tools", ToolNode([temperature]))
graph.add_edge(START, "model")
graph.add_conditional_edges("model", tools_condition)
graph.add_edge("tools", "model")
question = {"messages": [("user", "Which is warmer now, Oslo or Rome?")]}
for message, _ in graph.compile().stream(question, stream_mode="messages"):
    if isinstance(message, AIMessageChunk):
        print(message.text, end="", flush=True)
print()
