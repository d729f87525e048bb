package job

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/drover-cloud/drover/store"
)

// FinishTx seals the running job's outcome in the host's own transaction, so that its effects and the outcome commit
// together: v is the result, or an error that fails the job without a retry (cancels it, if a cancel request came first).
// The job stays running until the handler returns; what that returns is only logged. If the node dies before, the sealed
// outcome becomes the job's all the same.
//
// [ErrFinished] when it is sealed already, [ErrLost] when the claim is lost, [ErrTooLarge], [ErrInvalid],
// [store.ErrForeign].
func FinishTx(ctx context.Context, tx store.Tx, v any) error {
	r, err := handlerOf(ctx)
	if err != nil {
		return err
	}
	seal, failure := &Seal{State: Succeeded}, error(nil)
	if failure, _ = v.(error); failure != nil {
		seal.State, seal.Error = Failed, encode(failure)
	} else if seal.Result, err = encodeResult(v, r.m.cfg.MaxResult); err != nil {
		return err
	}
	row, err := r.m.load(ctx, tx, r.row.ID)
	if err != nil {
		return err
	}
	switch {
	case row.State != Running || row.Epoch != r.row.Epoch:
		return r.fenced()
	case row.Flags&Sealed != 0:
		return fmt.Errorf("%w: sealed before", ErrFinished)
	case failure != nil && !row.CancelAt.IsZero():
		seal.State, seal.Error = Cancelled, cancelError(row.CancelReason)
		seal.Error.Causes = []Error{*encode(failure)}
	}
	r.mu.Lock()
	r.sealing = true
	r.mu.Unlock()
	err = r.m.store.Log(ctx, tx, []Entry{r.entry(Entry{Seal: seal})})
	if errors.Is(err, store.ErrConflict) {
		return ErrLost // or sealed in this very moment by another transaction: either way this one must not commit
	}
	return err
}

func encodeResult(v any, limit int) (json.RawMessage, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, invalid("Result", "%T cannot be encoded: %v", v, err)
	}
	if len(b) > limit {
		return nil, fmt.Errorf("job: Result: %d bytes, most are %d: %w", len(b), limit, ErrTooLarge)
	}
	return b, nil
}
