package wheel

// slotHeap is a binary heap of slots, the earliest first. Each slot is in it once.
type slotHeap []int64

func (h *slotHeap) push(slot int64) {
	s := append(*h, slot)
	for i := len(s) - 1; i > 0; {
		parent := (i - 1) / 2
		if s[parent] <= s[i] {
			break
		}
		s[parent], s[i] = s[i], s[parent]
		i = parent
	}
	*h = s
}

// pop removes the earliest slot and returns it. The heap must not be empty.
func (h *slotHeap) pop() int64 {
	s := *h
	first, last := s[0], len(s)-1
	s[0] = s[last]
	s = s[:last]
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			break
		}
		if right := child + 1; right < last && s[right] < s[child] {
			child = right
		}
		if s[i] <= s[child] {
			break
		}
		s[i], s[child] = s[child], s[i]
		i = child
	}
	*h = s
	return first
}
