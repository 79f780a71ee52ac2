"""The guided tour: six steps through the claim that a chatbot does not learn from you, each a real run."""
