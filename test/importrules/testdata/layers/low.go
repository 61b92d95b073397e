package layers

import "example.com/missing"

func lower(h *high) {
	h.method()
	missing.Function()
}
