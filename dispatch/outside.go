package dispatch

import (
	"context"
	"errors"
	"time"
)

// undoTime is how long undo may outlive its caller.
const undoTime = 30 * time.Second

// outside makes the entity in another system, then the job, and takes the entity back if there will be no job for it.
func (s *submission) outside(ctx context.Context) (Accepted, error) {
	if err := s.p.accepting(); err != nil {
		return Accepted{}, err
	}
	value := s.p.cmd.clone(s.c.Value)
	entity, err := s.p.cmd.outside(ctx, value)
	if err != nil {
		return Accepted{}, err
	}
	a, err := s.run(ctx, value, entity)
	var uncertain *UncertainError
	if err == nil && !a.Replayed || errors.As(err, &uncertain) {
		return a, err
	}
	undone := s.undo(ctx, value, entity)
	if err != nil && undone != nil { // what the submission says comes first
		err = &Error{Code: CodeOf(err), Text: err.Error() + "; undo: " + undone.Error(), Retryable: asError(err).Retryable, err: errors.Join(err, undone)}
	}
	return a, err
}

// undo takes the entity back, also when the caller is gone.
func (s *submission) undo(ctx context.Context, value any, entity string) error {
	reg := s.p.reg
	late, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	err := s.p.cmd.undo(late, value)
	count(ctx, reg.telemetry().undone)
	if err != nil {
		reg.env().Logger.ErrorContext(ctx, "undo failed, the entity is left behind", "command", s.p.cmd.name, "entity", entity, "error", err)
		return err
	}
	reg.env().Logger.WarnContext(ctx, "undone, since its job was not made", "command", s.p.cmd.name, "entity", entity)
	return nil
}
