"""The compiler of templates: written text knows which message was being written.

    {% set a = '[' %}{% for m in messages %}{{ a }}{{ m.content }}{% endfor %}  ->  [‹Hi, Bob›[«Yes»
    {% macro say(m) %}({{ m.content }}){% endmacro %}{{ say(messages[1]) }}  ->  («Yes»)

The syntax tree gets statements that bind and restore the current turn (loops, macros, assignments, branches), and the
code generator writes them, keeps string constants traceable, and tags text where it is collected.

Mechanisms, by construct: a loop variable that holds a message binds it; an inner loop over messages wins and the
outer binding returns after it; a loop over tool calls or content parts keeps the turn and adds the call or part; a loop
over a `range` binds what it indexes with its variable; `set message = …` in a loop without a message binds; a macro
binds its arguments while it runs; assigned text is claimed at the assignment.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.idtracking import VAR_LOAD_RESOLVE

from policy_engine.chat.trace.operators import is_constant, is_scalar, lists_in, sum_of_texts

_LISTS = ("body", "else_", "elif_")


class Rewriting:
    """Constants and branches of one template, collected while it is rewritten."""

    def __init__(self) -> None:
        self.branch_parents: list[int] = [0]
        self._saved = 0

    def fresh(self) -> int:
        """A number for a pair of save and restore."""
        self._saved += 1
        return self._saved

    def branch(self, parent: int) -> int:
        """A new `if` branch inside another one."""
        self.branch_parents.append(parent)
        return len(self.branch_parents) - 1


def rewrite(tree: nodes.Template) -> Rewriting:
    """Add binding statements to a parsed template, in place."""
    plan = Rewriting()
    for number, child in enumerate(c for output in tree.find_all(nodes.Output) for c in output.nodes):
        child.pe_number = number  # type: ignore[attr-defined]
    tree.body = _block(tree.body, plan, branch=0, loop=None)
    for output in tree.find_all((nodes.Output, nodes.Assign, nodes.Call, nodes.Filter, nodes.Getattr, nodes.Mod)):
        _mark_output(output)
    return plan


def _mark(action: str, expressions: Iterable[nodes.Expr], lineno: int, **details: Any) -> nodes.ExprStmt:
    # Jinja forbids own node types; an expression statement that carries its action is written by `visit_ExprStmt`.
    statement: Any = nodes.ExprStmt(nodes.Tuple(list(expressions), "load"), lineno=lineno)
    statement.pe_action = action
    statement.pe_details = details
    made: nodes.ExprStmt = statement
    return made


def _block(body: list[nodes.Node], plan: Rewriting, *, branch: int | None, loop: int | None) -> list[nodes.Node]:
    """Rewrite statements.

    `branch` is None in loops and macros, where binding decides; `loop` is the innermost loop.
    """
    out: list[nodes.Node] = []
    for node in body:
        if isinstance(node, nodes.For):
            out += _for(node, plan, branch)
        elif isinstance(node, nodes.If):
            out += _if(node, plan, branch, loop)
        elif isinstance(node, nodes.Macro | nodes.CallBlock):
            number = plan.fresh()
            args = [nodes.Name(arg.name, "load", lineno=node.lineno) for arg in node.args]
            inner = _block(node.body, plan, branch=None, loop=None)
            if isinstance(node, nodes.Macro):
                line = node.lineno
                start = [_mark("save", [], line, number=number), _mark("enter", args, line, number=number)]
                node.body = [*start, *inner, _mark("restore", [], line, number=number)]
            else:
                node.body = inner
            out.append(node)
        elif isinstance(node, nodes.Assign) and loop is not None and isinstance(node.target, nodes.Name):
            name = nodes.Name(node.target.name, "load", lineno=node.lineno)
            out += [node, _mark("assign", [name], node.lineno, number=loop)]
        else:
            for field in _LISTS:
                inner_body = getattr(node, field, None)
                if isinstance(inner_body, list):
                    setattr(node, field, _block(inner_body, plan, branch=branch, loop=loop))
            out.append(node)
    return out


def _for(node: nodes.For, plan: Rewriting, branch: int | None) -> list[nodes.Node]:
    number = plan.fresh()
    targets = [nodes.Name(n.name, "load", lineno=node.lineno) for n in _names(node.target)]
    if isinstance(node.target, nodes.Name):
        targets += _indexed_by(node)
    bind = _mark("bind", targets, node.lineno, number=number)
    node.body = [bind, *_block(node.body, plan, branch=None, loop=number)]
    # The `else` of a loop runs when there was no round, so nothing is bound in it.
    node.else_ = _block(node.else_, plan, branch=branch, loop=None)
    return [_mark("save", [], node.lineno, number=number), node, _mark("restore", [], node.lineno, number=number)]


def _names(target: nodes.Node) -> list[nodes.Name]:
    return [target] if isinstance(target, nodes.Name) else list(target.find_all(nodes.Name))


def _indexed_by(node: nodes.For) -> list[nodes.Name]:
    """Names that a loop's body indexes with its variable, and does not assign.

    For example, `messages` in `{% for i in range(9) %}{{ messages[i].content }}{% endfor %}`.
    """
    assert isinstance(node.target, nodes.Name)
    variable = node.target.name
    # A list that the loop assigns may be another one in each round.
    stored = {n.name for child in node.body for n in child.find_all(nodes.Name) if n.ctx != "load"}
    found: dict[str, nodes.Name] = {}
    for child in node.body:
        for item in child.find_all(nodes.Getitem):
            base = item.node
            if not isinstance(item.arg, nodes.Name) or item.arg.name != variable or not isinstance(base, nodes.Name):
                continue
            if base.name not in stored and base.name != "loop":
                found.setdefault(base.name, nodes.Name(base.name, "load", lineno=node.lineno))
    return list(found.values())


def _if(node: nodes.If, plan: Rewriting, branch: int | None, loop: int | None) -> list[nodes.Node]:
    def enter(body: list[nodes.Node]) -> list[nodes.Node]:
        if branch is None:
            return _block(body, plan, branch=None, loop=loop)
        inner = plan.branch(branch)
        return [_mark("branch", [], node.lineno, number=inner), *_block(body, plan, branch=inner, loop=loop)]

    node.body = enter(node.body)
    node.else_ = enter(node.else_) if node.else_ else []
    for other in node.elif_:
        other.body = enter(other.body)
    return [node] if branch is None else [node, _mark("branch", [], node.lineno, number=branch)]


def _mark_output(node: nodes.Node) -> None:
    """Mark string constants that can become output, so that they know their line."""
    children: list[Any]  # jinja2's nodes carry our marks as attributes that their class does not declare
    if isinstance(node, nodes.Output):
        children = list(node.nodes)
    elif isinstance(node, nodes.Assign):
        children = [node.node]
    elif isinstance(node, nodes.Call):
        # Arguments of macros, which may print them; methods of data do not print theirs.
        children = [*node.args, *(k.value for k in node.kwargs)] if isinstance(node.node, nodes.Name) else []
    elif isinstance(node, nodes.Filter):
        # Filters whose arguments may be written; those of others only say what to do.
        printing = node.name in ("join", "default", "d", "replace", "format")
        children = [node.node, *(node.args if printing else ())]
    elif isinstance(node, nodes.Getattr):
        children = [node.node]
    else:
        assert isinstance(node, nodes.Mod)
        children = [node.left]
    while children:
        child: Any = children.pop()
        if isinstance(child, nodes.Const):
            child.pe_text = isinstance(child.value, str)  # type: ignore[attr-defined]
        elif isinstance(child, nodes.Add | nodes.Or | nodes.And):
            children += [child.left, child.right]
        elif isinstance(child, nodes.Concat):
            children += child.nodes
        elif isinstance(child, nodes.CondExpr):
            children += [child.expr1, child.expr2]
        elif isinstance(child, nodes.List | nodes.Tuple):
            children += child.items


def _written_as_is(node: nodes.Node) -> bool:
    if isinstance(node, nodes.TemplateData) or getattr(node, "pe_sum", None) is not None:
        return True
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


class TracingGenerator(CodeGenerator):
    """Jinja's code generator, with binding statements, traced constants and tagging buffers."""

    def enter_frame(self, frame: Frame) -> None:
        super().enter_frame(frame)
        environment: Any = self.environment
        # As `jinja2.meta.find_undeclared_variables`, which parses and generates everything once more.
        environment.pe_undeclared |= {
            name
            for action, name in frame.symbols.loads.values()
            if action == VAR_LOAD_RESOLVE and name not in environment.globals
        }

    def visit_ExprStmt(self, node: nodes.ExprStmt, frame: Frame) -> None:
        action = getattr(node, "pe_action", None)
        if action is None:
            super().visit_ExprStmt(node, frame)
            return
        number = node.pe_details["number"]  # type: ignore[attr-defined]
        self.newline(node)
        if action == "save":
            # A local variable of the compiled function, so that recursion keeps each call's own.
            self.write(f"pe_{number} = context.pe.claim; pe_{number}b = False")
        elif action == "restore":
            self.write(f"context.pe.claim = pe_{number}")
        elif action == "branch":
            self.write(f"context.pe.enter_branch({number})")
        else:
            opening = {
                "bind": f"pe_{number}b = context.pe.bind(pe_{number}, ",
                "enter": f"context.pe.enter(pe_{number}, ",
                "assign": f"if not pe_{number}b: context.pe.assign(",
            }
            self._called(opening[action], (node.node,), frame)

    def visit_Const(self, node: nodes.Const, frame: Frame) -> None:
        if getattr(node, "pe_text", False):
            self._constant(node.value, node.lineno)
        else:
            super().visit_Const(node, frame)

    def visit_TemplateData(self, node: nodes.TemplateData, frame: Frame) -> None:
        self._constant(node.data, node.lineno)

    def _constant(self, text: str, lineno: int) -> None:
        environment: Any = self.environment
        self.write(f"environment.pe_constants[{environment.pe_constant(text, lineno)}]")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        # Constants are not joined at compile time: each keeps its own line.
        raise nodes.Impossible()

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        # Unbuffered, this line yields the output; in a buffer it is collected and written later.
        if frame.buffer is None:
            self.environment.pe_outputs[self.code_lineno] = node.pe_number  # type: ignore[attr-defined]
        if not _written_as_is(node):
            self.write("environment.pe_str(")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:
        if not _written_as_is(node):
            super()._output_child_post(node, frame, finalize)

    def visit_Output(self, node: nodes.Output, frame: Frame) -> None:
        for child in node.nodes:
            operands = sum_of_texts(child)
            if operands is not None:
                # Written as a tuple, which the collector takes apart: adding traced strings costs more.
                child.pe_sum = operands  # type: ignore[attr-defined]
        super().visit_Output(node, frame)

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:
        self.write("environment.pe_join((")
        for arg in node.nodes:
            self.visit(arg, frame)
            self.write(", ")
        self.write("))")

    # Operators are calls of our own functions: of bounded size and time, and what they make of data is the data's.
    # `*`, `**` and `%` go through the sandbox's `call_binop`, which keeps Jinja from computing them while it compiles.
    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:
        self._called("environment.pe_add(", (node.left, node.right), frame)

    def visit_Sub(self, node: nodes.BinExpr, frame: Frame) -> None:
        self._called("environment.pe_sub(", (node.left, node.right), frame)

    def visit_Div(self, node: nodes.BinExpr, frame: Frame) -> None:
        self._called("environment.pe_arithmetic('/', ", (node.left, node.right), frame)

    def visit_FloorDiv(self, node: nodes.BinExpr, frame: Frame) -> None:
        self._called("environment.pe_arithmetic('//', ", (node.left, node.right), frame)

    def visit_Neg(self, node: nodes.UnaryExpr, frame: Frame) -> None:
        self._called("environment.pe_sign('-', ", (node.node,), frame)

    def visit_Pos(self, node: nodes.UnaryExpr, frame: Frame) -> None:
        self._called("environment.pe_sign('+', ", (node.node,), frame)

    def visit_Compare(self, node: nodes.Compare, frame: Frame) -> None:
        operands = [node.expr, *(op.expr for op in node.ops)]
        if all(is_scalar(left) or is_scalar(right) for left, right in pairwise(operands)):
            super().visit_Compare(node, frame)
            return
        # Two lists that a template made can be endless to compare. In a chain the operands are evaluated one by one, as
        # in Python.
        if len(node.ops) == 1:
            self._called(f"environment.pe_{node.ops[0].op}(", operands, frame)
            return
        self.write(f"environment.pe_compare({[op.op for op in node.ops]!r}, ")
        self.visit(node.expr, frame)
        for op in node.ops:
            self.write(", lambda: ")
            self.visit(op.expr, frame)
        self.write(")")

    def visit_Dict(self, node: nodes.Dict, frame: Frame) -> None:
        self.write("{")
        for item in node.items:
            if is_constant(item.key):
                self.visit(item.key, frame)
            else:
                self._called("environment.pe_key(", (item.key,), frame)
            self.write(": ")
            self.visit(item.value, frame)
            self.write(", ")
        self.write("}")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:
        bounds = node.arg
        if isinstance(bounds, nodes.Slice):
            # Jinja's own code for slices goes past the environment.
            self._called("environment.pe_slice(", (node.node, bounds.start, bounds.stop, bounds.step), frame)
        else:
            super().visit_Getitem(node, frame)

    def _called(self, opening: str, operands: Iterable[nodes.Node | None], frame: Frame) -> None:
        self.write(opening)
        for operand in operands:
            if operand is None:
                self.write("None")
            else:
                self.visit(operand, frame)
            self.write(", ")
        self.write(")")

    def buffer(self, frame: Frame) -> None:
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = context.pe.buffer()")

    def visit_Assign(self, node: nodes.Assign, frame: Frame) -> None:
        value: Any = node.node
        # A macro's result was claimed in its buffer.
        value.pe_claim = not isinstance(value, nodes.Call) or isinstance(value.node, nodes.Getattr)
        # `ns.out + ['<|user|>', m.content]`: a list is no text, so each of its items is claimed.
        for listed in lists_in(value):
            for item in listed.items:
                is_text = getattr(item, "pe_text", False) or isinstance(item, nodes.Add | nodes.Concat)
                item.pe_claim = is_text  # type: ignore[attr-defined]
        super().visit_Assign(node, frame)

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        operands = getattr(node, "pe_sum", None)
        if operands is not None:
            self.write("(")
            for operand in operands:
                super().visit(operand, *args, **kwargs)
                self.write(", ")
            self.write(")")
            return None
        # Text that is assigned is claimed by the turn being written then, not by the one that prints it.
        if getattr(node, "pe_claim", False):
            node.pe_claim = False  # type: ignore[attr-defined]
            self.write("context.pe.claimed(")
            result = super().visit(node, *args, **kwargs)
            self.write(")")
            return result
        return super().visit(node, *args, **kwargs)
