/* The Panda's kinematics and dynamics: the one place for these numbers. model_library.c includes this file, arm.py reads it
 * line by line.
 *
 * JOINT(a, d, quarter turns of alpha): Denavit-Hartenberg parameters after Craig, metres; Franka's documentation ("Robot and
 * interface specifications: Denavit-Hartenberg parameters").
 *
 * LINK(mass, centre of mass x y z, inertia about it xx xy xz yy yz zz): kg, m, kg m^2, in the link's frame. Identified by
 * Gaz, Cognetti, Oliva, Robuffo Giordano and De Luca, "Dynamic Identification of the Franka Emika Panda Robot With Retrieval
 * of Feasible Parameters Using Penalty-Based Optimization", IEEE RA-L 4(4), 2019, supplementary tables VIII and IX. Where
 * along its axis the first link's mass lies cannot be identified and has no effect.
 *
 * FLANGE(d): from the seventh joint's frame to the flange, metres.
 */
JOINT(0.0, 0.333, 0)
LINK(4.970684, 3.875e-03, 2.081e-03, 0.0, 7.0337e-01, -1.3900e-04, 6.7720e-03, 7.0661e-01, 1.9169e-02, 9.1170e-03)
JOINT(0.0, 0.0, -1)
LINK(0.646926, -3.141e-03, -2.872e-02, 3.495e-03, 7.9620e-03, -3.9250e-03, 1.0254e-02, 2.8110e-02, 7.0400e-04, 2.5995e-02)
JOINT(0.0, 0.316, 1)
LINK(3.228604, 2.7518e-02, 3.9252e-02, -6.6502e-02, 3.7242e-02, -4.7610e-03, -1.1396e-02, 3.6155e-02, -1.2805e-02, 1.0830e-02)
JOINT(0.0825, 0.0, 1)
LINK(3.587895, -5.317e-02, 1.04419e-01, 2.7454e-02, 2.5853e-02, 7.7960e-03, -1.3320e-03, 1.9552e-02, 8.6410e-03, 2.8323e-02)
JOINT(-0.0825, 0.384, -1)
LINK(1.225946, -1.1953e-02, 4.1065e-02, -3.8437e-02, 3.5549e-02, -2.1170e-03, -4.0370e-03, 2.9474e-02, 2.2900e-04, 8.6270e-03)
JOINT(0.0, 0.0, 1)
LINK(1.666555, 6.0149e-02, -1.4117e-02, -1.0517e-02, 1.9640e-03, 1.0900e-04, -1.1580e-03, 4.3540e-03, 3.4100e-04, 5.4330e-03)
JOINT(0.088, 0.0, 1)
LINK(0.735522, 1.0517e-02, -4.252e-03, 6.1597e-02, 1.2516e-02, -4.2800e-04, -1.1960e-03, 1.0027e-02, -7.4100e-04, 4.8150e-03)
FLANGE(0.107)
