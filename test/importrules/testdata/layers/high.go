package layers

type high struct{}

func (h *high) method() {}

func top() { lower(&high{}) }
