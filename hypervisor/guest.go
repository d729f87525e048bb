package hypervisor

import "context"

// GuestPinger asks the agent inside a guest.
type GuestPinger interface {
	// PingGuest is nil if the guest's agent answers. A VM without a channel for one is ErrUnsupported, an agent that does not answer is
	// ErrTimeout, a VM that is not On is ErrState.
	PingGuest(ctx context.Context, id string) error
}

// Consoler keeps what guests write to their serial consoles.
type Consoler interface {
	// ConsoleLog gives the last bytes, at most limit of them. It stays after the guest has ended. A host that keeps none is ErrUnsupported, a VM
	// that has written none ErrNotFound.
	ConsoleLog(ctx context.Context, id string, limit int) ([]byte, error)
}
