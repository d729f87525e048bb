package syncqueue

// Key names the thing: {"vm", "42"}. The zero Key means no turn-taking.
type Key struct{ Kind, ID string }
