/* The library that the Panda's robot server hands to its client, and that libfranka 0.9 then loads and calls.
 *
 * Names and signatures are those that libfranka 0.9.2 asks for (src/libfcimodels.h); matrices are column by column. Frames
 * are numbered as there: 1 to 7 the links, 8 the flange, 9 the end effector. O_T_J the pose in the base frame, O_J the
 * Jacobian in the base frame (linear above angular velocity), Ji_J the same in the frame's own axes, M_NE the mass matrix,
 * c_NE the torques by Coriolis and centrifugal forces, g_NE those by gravity. A load is a rigid body at the flange: mass,
 * centre in the flange's frame, inertia about it in the flange's axes.
 */
#include <math.h>

typedef struct {
    double a, d;
    int quarters;
} Joint;

typedef struct {
    double mass, centre[3], inertia[6]; /* xx xy xz yy yz zz */
} Body;

static const Joint joints[7] = {
#define JOINT(a, d, quarters) {a, d, quarters},
#define LINK(...)
#define FLANGE(d)
#include "parameters.h"
#undef JOINT
#undef LINK
};

static const Body links[7] = {
#define JOINT(...)
#define LINK(mass, x, y, z, ...) {mass, {x, y, z}, {__VA_ARGS__}},
#include "parameters.h"
#undef LINK
#undef FLANGE
};

static const double flange_m =
#define LINK(...)
#define FLANGE(d) d
#include "parameters.h"
    ;

typedef struct {
    double r[3][3], p[3]; /* rotation and position in the base frame */
} Frame;

static void cross(const double a[3], const double b[3], double out[3]) {
    out[0] = a[1] * b[2] - a[2] * b[1];
    out[1] = a[2] * b[0] - a[0] * b[2];
    out[2] = a[0] * b[1] - a[1] * b[0];
}

static double dot(const double a[3], const double b[3]) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

static void to_base(const Frame *frame, const double v[3], double out[3]) {
    for (int i = 0; i < 3; i++) out[i] = dot(frame->r[i], v);
}

static void axis_of(const Frame *frame, double out[3]) {
    for (int i = 0; i < 3; i++) out[i] = frame->r[i][2];
}

static Frame after(const Frame *parent, double r[3][3], const double p[3]) {
    Frame child;
    to_base(parent, p, child.p);
    for (int i = 0; i < 3; i++) {
        child.p[i] += parent->p[i];
        for (int j = 0; j < 3; j++)
            child.r[i][j] = parent->r[i][0] * r[0][j] + parent->r[i][1] * r[1][j] + parent->r[i][2] * r[2][j];
    }
    return child;
}

/* Frames of the links (0 to 6) and of the flange (7). */
static void forward(const double q[7], Frame frames[8]) {
    static const int cosines[3] = {0, 1, 0}, sines[3] = {-1, 0, 1}; /* of -1, 0 and 1 quarter turns */
    Frame parent = {{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, {0, 0, 0}};
    for (int i = 0; i < 7; i++) {
        double ca = cosines[joints[i].quarters + 1], sa = sines[joints[i].quarters + 1], cq = cos(q[i]), sq = sin(q[i]);
        double r[3][3] = {{cq, -sq, 0}, {sq * ca, cq * ca, -sa}, {sq * sa, cq * sa, ca}};
        double p[3] = {joints[i].a, -sa * joints[i].d, ca * joints[i].d};
        parent = frames[i] = after(&parent, r, p);
    }
    double r[3][3] = {{1, 0, 0}, {0, 1, 0}, {0, 0, 1}}, p[3] = {0, 0, flange_m};
    frames[7] = after(&parent, r, p);
}

static Frame end_effector(const Frame *flange, const double F_T_EE[16]) {
    double r[3][3];
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) r[i][j] = F_T_EE[4 * j + i];
    return after(flange, r, F_T_EE + 12);
}

static Frame frame_of(int number, const double q[7], const double *F_T_EE, Frame frames[8]) {
    forward(q, frames);
    return number == 9 ? end_effector(&frames[7], F_T_EE) : frames[number - 1];
}

static void pose(int number, const double q[7], const double *F_T_EE, double out[16]) {
    Frame frames[8], frame = frame_of(number, q, F_T_EE, frames);
    for (int i = 0; i < 3; i++) {
        for (int j = 0; j < 3; j++) out[4 * j + i] = frame.r[i][j];
        out[12 + i] = frame.p[i];
        out[4 * i + 3] = 0.0;
    }
    out[15] = 1.0;
}

static void jacobian(int number, const double q[7], const double *F_T_EE, int in_own_axes, double out[42]) {
    Frame frames[8], frame = frame_of(number, q, F_T_EE, frames);
    for (int j = 0; j < 7; j++) {
        double *column = out + 6 * j, axis[3], arm[3], linear[3];
        for (int i = 0; i < 6; i++) column[i] = 0.0;
        if (j >= number) continue;
        axis_of(&frames[j], axis);
        for (int i = 0; i < 3; i++) arm[i] = frame.p[i] - frames[j].p[i];
        cross(axis, arm, linear);
        for (int i = 0; i < 3; i++) {
            for (int k = 0; k < 3; k++) {
                double to_frame = in_own_axes ? frame.r[k][i] : (double)(i == k);
                column[i] += to_frame * linear[k];
                column[3 + i] += to_frame * axis[k];
            }
        }
    }
}

/* What moves: the links (0 to 6) and the load (7), in the base frame at the frames' pose. */
typedef struct {
    double mass, centre[3], inertia[3][3];
    int link; /* the last joint that moves it */
} Moved;

static void moved(const Body *body, const Frame *frame, int link, Moved *out) {
    const double *v = body->inertia, own[3][3] = {{v[0], v[1], v[2]}, {v[1], v[3], v[4]}, {v[2], v[4], v[5]}};
    out->mass = body->mass;
    out->link = link;
    to_base(frame, body->centre, out->centre);
    for (int i = 0; i < 3; i++) {
        out->centre[i] += frame->p[i];
        for (int j = 0; j < 3; j++) {
            out->inertia[i][j] = 0.0;
            for (int k = 0; k < 3; k++)
                for (int l = 0; l < 3; l++) out->inertia[i][j] += frame->r[i][k] * own[k][l] * frame->r[j][l];
        }
    }
}

static void all_moved(const double q[7], const double *I_load, double m_load, const double F_x_Cload[3], Frame frames[8],
                      Moved bodies[8]) {
    static const double none[9] = {0};
    const double *v = I_load ? I_load : none;
    Body load = {m_load, {F_x_Cload[0], F_x_Cload[1], F_x_Cload[2]}, {v[0], v[3], v[6], v[4], v[7], v[8]}};
    forward(q, frames);
    for (int i = 0; i < 7; i++) moved(&links[i], &frames[i], i, &bodies[i]);
    moved(&load, &frames[7], 6, &bodies[7]);
}

/* The body's Jacobian about its centre for joint j: zero where the joint does not move it. */
static void body_column(const Moved *body, const Frame frames[8], int j, double linear[3], double axis[3]) {
    double arm[3];
    axis_of(&frames[j], axis);
    for (int i = 0; i < 3; i++) arm[i] = body->centre[i] - frames[j].p[i];
    cross(axis, arm, linear);
}

void M_NE(const double q[7], const double I_load[9], double m_load, const double F_x_Cload[3], double out[49]) {
    Frame frames[8];
    Moved bodies[8];
    all_moved(q, I_load, m_load, F_x_Cload, frames, bodies);
    for (int i = 0; i < 49; i++) out[i] = 0.0;
    for (int b = 0; b < 8; b++) {
        for (int j = 0; j <= bodies[b].link; j++) {
            double linear_j[3], axis_j[3], spun[3];
            body_column(&bodies[b], frames, j, linear_j, axis_j);
            for (int i = 0; i < 3; i++) spun[i] = dot(bodies[b].inertia[i], axis_j);
            for (int k = 0; k <= bodies[b].link; k++) {
                double linear_k[3], axis_k[3];
                body_column(&bodies[b], frames, k, linear_k, axis_k);
                out[7 * j + k] += bodies[b].mass * dot(linear_j, linear_k) + dot(axis_k, spun);
            }
        }
    }
}

void g_NE(const double q[7], const double g_earth[3], double m_load, const double F_x_Cload[3], double out[7]) {
    Frame frames[8];
    Moved bodies[8];
    all_moved(q, 0, m_load, F_x_Cload, frames, bodies);
    for (int j = 0; j < 7; j++) {
        out[j] = 0.0;
        for (int b = 0; b < 8; b++) {
            double linear[3], axis[3];
            if (bodies[b].link < j) continue;
            body_column(&bodies[b], frames, j, linear, axis);
            out[j] -= bodies[b].mass * dot(linear, g_earth);
        }
    }
}

/* Newton and Euler: accelerations of every body at constant joint velocities, and the torques that they take. */
void c_NE(const double q[7], const double dq[7], const double I_load[9], double m_load, const double F_x_Cload[3],
          double out[7]) {
    Frame frames[8];
    Moved bodies[8];
    double spin[3] = {0}, turning[3] = {0}, moving[3] = {0}, before[3] = {0}; /* of the last link: w, dw, a; its origin */
    double force[8][3], moment[8][3];
    all_moved(q, I_load, m_load, F_x_Cload, frames, bodies);
    for (int b = 0; b < 8; b++) {
        double arm[3], part[3], inner[3];
        if (b < 7) {
            for (int i = 0; i < 3; i++) arm[i] = frames[b].p[i] - before[i];
            cross(spin, arm, inner);
            cross(spin, inner, part);
            for (int i = 0; i < 3; i++) moving[i] += part[i];
            cross(turning, arm, part);
            for (int i = 0; i < 3; i++) moving[i] += part[i], before[i] = frames[b].p[i];
            double axis[3], turned[3];
            axis_of(&frames[b], axis);
            cross(spin, axis, turned);
            for (int i = 0; i < 3; i++) turning[i] += dq[b] * turned[i], spin[i] += dq[b] * axis[i];
        }
        for (int i = 0; i < 3; i++) arm[i] = bodies[b].centre[i] - before[i];
        cross(spin, arm, inner);
        cross(spin, inner, part);
        cross(turning, arm, force[b]);
        for (int i = 0; i < 3; i++) force[b][i] = bodies[b].mass * (moving[i] + part[i] + force[b][i]);
        for (int i = 0; i < 3; i++) inner[i] = dot(bodies[b].inertia[i], spin);
        cross(spin, inner, moment[b]);
        for (int i = 0; i < 3; i++) moment[b][i] += dot(bodies[b].inertia[i], turning);
    }
    for (int j = 0; j < 7; j++) {
        double axis[3], total[3] = {0}, part[3], arm[3];
        axis_of(&frames[j], axis);
        for (int b = 0; b < 8; b++) {
            if (bodies[b].link < j) continue;
            for (int i = 0; i < 3; i++) arm[i] = bodies[b].centre[i] - frames[j].p[i];
            cross(arm, force[b], part);
            for (int i = 0; i < 3; i++) total[i] += part[i] + moment[b][i];
        }
        out[j] = dot(axis, total);
    }
}

#define LINK_FUNCTIONS(n)                                                                      \
    void O_T_J##n(const double q[7], double out[16]) { pose(n, q, 0, out); }                   \
    void O_J_J##n(const double q[7], double out[42]) { jacobian(n, q, 0, 0, out); }            \
    void Ji_J_J##n(const double q[7], double out[42]) { jacobian(n, q, 0, 1, out); }

LINK_FUNCTIONS(2)
LINK_FUNCTIONS(3)
LINK_FUNCTIONS(4)
LINK_FUNCTIONS(5)
LINK_FUNCTIONS(6)
LINK_FUNCTIONS(7)
LINK_FUNCTIONS(8)

void O_T_J9(const double q[7], const double F_T_EE[16], double out[16]) { pose(9, q, F_T_EE, out); }
void O_J_J9(const double q[7], const double F_T_EE[16], double out[42]) { jacobian(9, q, F_T_EE, 0, out); }
void Ji_J_J9(const double q[7], const double F_T_EE[16], double out[42]) { jacobian(9, q, F_T_EE, 1, out); }

/* The first link's Jacobians are the same wherever the joints are. */
void O_T_J1(const double q[7], double out[16]) { pose(1, q, 0, out); }
void O_J_J1(double out[42]) {
    const double q[7] = {0};
    jacobian(1, q, 0, 0, out);
}
void Ji_J_J1(double out[42]) {
    const double q[7] = {0};
    jacobian(1, q, 0, 1, out);
}
